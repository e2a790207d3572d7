"""A file without a name that gets one when it is complete: never seen half written, never overwriting.

O_TMPFILE makes an inode without a directory entry, linkat(2) through /proc/self/fd gives it one and
fails when the name exists. Where a file system has no O_TMPFILE, a hidden name stands in; what a
crash leaves of that begins with `.tmp-` and may be removed by anybody.
"""

import errno
import os
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from holdfast.host import files, gate

HIDDEN_PREFIX: Final = ".tmp-"
_NOT_THERE: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


class AnonymousFile:
    """A new file in a directory; gone at the end of the block unless it was published.

    Attributes:
        fd: open for reading and writing.
    """

    def __init__(self, directory_fd: int, *, mode: int = 0o600) -> None:
        """Make the file in the open directory (OSError); the caller keeps `directory_fd`."""
        self._directory_fd = directory_fd
        self._hidden: str | None = None
        if gate.active is not None:
            gate.active("open", "anonymous file")
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self.fd = os.open(".", flags | os.O_TMPFILE, mode, dir_fd=directory_fd)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            self._hidden = f"{HIDDEN_PREFIX}{os.getpid()}-{id(self):x}"
            self.fd = files.create(self._hidden, mode=mode, dir_fd=directory_fd)

    def publish(self, name: str) -> None:
        """Flush the content, give the file its name, and make both last.

        Raises:
            FileExistsError: there is something of that name; it stays as it is.
            OSError: the disk failed; then the name may exist, but was not promised to last.
        """
        files.fsync(self.fd, path=name)
        if gate.active is not None:
            gate.active("link", name)
        if self._hidden is None:
            # dir_fd makes CPython use linkat(2) with AT_SYMLINK_FOLLOW; link(2) would not do
            os.link(
                f"/proc/self/fd/{self.fd}",
                name,
                dst_dir_fd=self._directory_fd,
                follow_symlinks=True,
            )
        else:
            os.link(
                self._hidden,
                name,
                src_dir_fd=self._directory_fd,
                dst_dir_fd=self._directory_fd,
                follow_symlinks=False,
            )
        files.fsync(self._directory_fd, path=name)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._hidden is not None:
            with suppress(OSError):
                os.unlink(self._hidden, dir_fd=self._directory_fd)
            self._hidden = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()
