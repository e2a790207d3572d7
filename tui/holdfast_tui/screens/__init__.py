"""One package for each view; `VIEWS` says where they are, and imports none of them."""

from typing import Final

VIEWS: Final = {
    "dashboard": "holdfast_tui.screens.dashboard.view:DashboardView",
    "snapshots": "holdfast_tui.screens.snapshots.view:SnapshotsView",
    "detail": "holdfast_tui.screens.detail.view:DetailView",
    "restore": "holdfast_tui.screens.restore.view:RestoreView",
    "tasks": "holdfast_tui.screens.tasks.view:TasksView",
    "dedup": "holdfast_tui.screens.dedup.view:DedupView",
    "verify": "holdfast_tui.screens.verify.view:VerifyView",
    "schedules": "holdfast_tui.screens.schedules.view:SchedulesView",
    "stores": "holdfast_tui.screens.stores.view:StoresView",
}
