"""Keys of the tasks."""

from holdfast_tui.keys.key import Key

KEYS = (
    Key(
        id="tasks.tail",
        keys="t",
        action="tail",
        label="tail",
        bar=10,
        help="follow the log as it grows, and stop following",
    ),
    Key(
        id="tasks.minute_back",
        keys="left_curly_bracket",
        action="minute(-1)",
        label="minute back",
        help="a minute back in the log",
        shown="{",
    ),
    Key(
        id="tasks.minute_on",
        keys="right_curly_bracket",
        action="minute(1)",
        label="minute on",
        help="a minute on in the log",
        shown="}",
    ),
    Key(
        id="tasks.stop",
        keys="K",
        action="stop",
        label="stop job",
        mutates=True,
        bar=20,
        help="ask the job to end cleanly; asked again it ends at once",
    ),
    Key(
        id="tasks.pause",
        keys="P",
        action="pause",
        label="pause job",
        mutates=True,
        bar=21,
        help="let the job sleep where it is, or go on",
    ),
    Key(
        id="tasks.again",
        keys="R",
        action="again",
        label="run again",
        mutates=True,
        bar=22,
        help="start the same work once more",
    ),
)
