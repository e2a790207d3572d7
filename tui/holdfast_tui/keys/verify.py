"""Keys of the view of damage and verification."""

from holdfast_tui.keys.key import Key, of_parts, of_stores

KEYS = (
    *of_parts("verify", "snapshots, files, ways out, coverage"),
    *of_stores("verify"),
    Key(
        id="verify.trace",
        keys="c",
        action="trace",
        label="trace",
        bar=10,
        help="look again which chunks are lost, and who uses them",
    ),
    Key(
        id="verify.files",
        keys="f",
        action="files",
        label="files",
        bar=11,
        needs_content=True,
        help="which files the chunk under the cursor carries",
    ),
    Key(
        id="verify.good",
        keys="b",
        action="good",
        label="last good",
        bar=13,
        needs_content=True,
        help="the newest undamaged version of the file (or the archive) under the cursor, to restore",
    ),
    Key(
        id="verify.log",
        keys="o",
        action="log",
        label="log",
        bar=12,
        help="the log of the verification that failed",
    ),
    Key(
        id="verify.verify",
        keys="V",
        action="verify",
        label="verify",
        mutates=True,
        bar=20,
        help="verify the marked snapshots, or all that are hit, or what is due in the store",
    ),
    Key(
        id="verify.run",
        keys="R",
        action="run",
        label="do this",
        mutates=True,
        bar=21,
        help="do what the way out under the cursor says",
    ),
)
