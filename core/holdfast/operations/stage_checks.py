"""What `doctor` looks at in the WAL stage of this machine, if it has one."""

from holdfast.errors import HoldfastError, NotFound
from holdfast.operations.findings import Finding, Level
from holdfast.operations.pg_problems import stage_backlog
from holdfast.postgres.base_record import BaseRecord
from holdfast.postgres.wal_stage import WalStage, stage_path


def check_stage(state_directory: str, now_s: float) -> list[Finding]:
    """Findings about the usual stage: what waits, what nobody works on, whether there is a base."""
    path = stage_path(None, state_directory)
    try:
        with WalStage.open_to_read(path) as stage:
            return _check(stage, now_s)
    except NotFound:
        return []
    except HoldfastError as error:
        return [
            Finding(
                level=Level.PROBLEM,
                area="WAL stage",
                message=f"{path} could not be looked at: {error.message}",
                advice="run doctor as the server's user",
            )
        ]


def _check(stage: WalStage, now_s: float) -> list[Finding]:
    area = f"WAL stage of {stage.settings.cluster}"
    findings = [
        Finding(level=Level.WARNING, area=area, message=text, advice="see `holdfast pg check`")
        for text in stage_backlog(stage, now_s)
    ]
    current = stage.current()
    if current is not None and BaseRecord.read(current) is None:
        findings.append(
            Finding(
                level=Level.PROBLEM,
                area=area,
                message="there is no base backup: nothing can be recovered",
                advice="run `holdfast wal full-sync`",
            )
        )
    if stage.requests.flags().owed and not stage.requests.is_worker_alive():
        findings.append(
            Finding(
                level=Level.WARNING,
                area=area,
                message="work is owed and no sync runs",
                advice="run `holdfast wal sync`; the next segment starts one as well",
            )
        )
    if not findings:
        findings.append(Finding(level=Level.GOOD, area=area, message="nothing waits"))
    return findings
