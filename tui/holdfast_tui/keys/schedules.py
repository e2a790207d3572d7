"""Keys of the schedules."""

from holdfast_tui.keys.key import Key

KEYS = (
    Key(
        id="schedules.utc",
        keys="c",
        action="utc",
        label="UTC",
        bar=10,
        help="times in UTC, or local",
    ),
    Key(
        id="schedules.run",
        keys="T",
        action="run_now",
        label="run now",
        mutates=True,
        bar=20,
        help="run the job now, whatever its schedule says",
    ),
    Key(
        id="schedules.switch",
        keys="O",
        action="switch",
        label="on/off",
        mutates=True,
        bar=21,
        help="let the scheduler start the job, or not",
    ),
    Key(
        id="schedules.edit",
        keys="E",
        action="edit",
        label="edit",
        mutates=True,
        bar=22,
        help="open the configuration at this job in $EDITOR; it is checked before it counts",
    ),
    Key(
        id="schedules.add",
        keys="A",
        action="add",
        label="add",
        mutates=True,
        bar=23,
        help="add a job to the configuration",
    ),
    Key(
        id="schedules.prune",
        keys="P",
        action="prune",
        label="prune",
        mutates=True,
        bar=24,
        help="what the job's retention would remove, then remove it",
    ),
)
