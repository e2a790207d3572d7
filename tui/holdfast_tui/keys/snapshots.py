"""Keys of the snapshots explorer."""

from holdfast_tui.keys.key import Key, of_snapshots

KEYS = (
    Key(
        id="snapshots.inside",
        keys="l,right",
        action="inside",
        label="in",
        bar=5,
        help="into the group, or unfold the namespace",
        shown="hl",
    ),
    Key(
        id="snapshots.outside",
        keys="h,left",
        action="outside",
        label="out",
        help="back to the groups, or fold the namespace",
    ),
    Key(
        id="snapshots.everything",
        keys="e",
        action="everything",
        label="all groups",
        help="every snapshot of the store in one list",
    ),
    Key(
        id="snapshots.info",
        keys="i",
        action="info",
        label="info",
        help="show or hide what is known of the snapshot under the cursor",
    ),
    *of_snapshots(
        "snapshots",
        diff="what changed between two marked snapshots, or since the one before",
        verify="read the marked snapshots, the group or the namespace again and check them",
        lock="keep the marked snapshots from prune and forget, or no longer",
        forget="remove the marked snapshots; says first how many bytes that frees",
        comment="write a note on the marked snapshots",
    ),
    Key(
        id="snapshots.count",
        keys="c",
        action="count",
        label="count only",
        bar=40,
        help="count the bytes that each snapshot alone holds, from the indexes",
    ),
    Key(
        id="snapshots.backup",
        keys="B",
        action="backup",
        label="backup",
        mutates=True,
        bar=20,
        help="a new snapshot: run a configured job, or back up directories and images",
    ),
    Key(
        id="snapshots.prune",
        keys="P",
        action="prune",
        label="prune",
        mutates=True,
        bar=25,
        help="what a retention policy would remove and why, then remove it",
    ),
)
