"""Look at everything that makes backups fail before it does; reads only."""

from dataclasses import dataclass

from holdfast.config.settings import Settings
from holdfast.config.stores import StoreSettings
from holdfast.errors import BadRequest, HoldfastError
from holdfast.host.clock import SYSTEM_CLOCK
from holdfast.operations import host_checks, store_checks
from holdfast.operations.findings import Finding, Level
from holdfast.operations.job_checks import check_jobs
from holdfast.operations.progress import Progress
from holdfast.operations.stage_checks import check_stage


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What to look at.

    Attributes:
        config: the configuration file.
        state_directory: of the task journal.
        store: only this one, by name or path; None looks at all that are configured.
    """

    config: str
    state_directory: str
    store: str | None = None


def examine(request: DoctorRequest, progress: Progress) -> list[Finding]:
    """Every finding, good ones included, in a fixed order (NotFound for a store nobody knows)."""
    progress.phase("program")
    findings = [*host_checks.check_program(), *host_checks.check_clock()]
    progress.phase("configuration")
    settings, about_settings = host_checks.check_configuration(request.config)
    findings += about_settings
    findings += host_checks.check_state_directory(request.state_directory)
    if settings is not None and request.store is None:
        findings += check_jobs(settings, request.state_directory, SYSTEM_CLOCK.now_s())
    if request.store is None:
        findings += check_stage(request.state_directory, SYSTEM_CLOCK.now_s())
    for store in _stores(request, settings):
        progress.phase("store")
        progress.item(store.name)
        try:
            findings += store_checks.check_store(store)
        except (OSError, HoldfastError) as error:
            findings.append(
                Finding(
                    level=Level.PROBLEM,
                    area=f"store {store.name}",
                    message=f"it could not be looked at: {error}",
                    advice="run doctor as the store's owner",
                )
            )
    return findings


def _stores(request: DoctorRequest, settings: Settings | None) -> list[StoreSettings]:
    if settings is None:
        return []
    if request.store is not None or not settings.stores:
        try:
            return [settings.store(request.store)]
        except BadRequest:  # none configured, which is told already
            return []
    return list(settings.stores.values())
