"""The app: one main screen whose views come when they are first asked for, and what they share.

It routes only: facts from the feeds to the view that is shown, keys to views, requests to the
launcher. Nothing here reads a file of the engine on the event loop.
"""

import asyncio
import importlib
import os
import select
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from holdfast_tui import keymap
from holdfast_tui.feed import JournalFeed, StoreFeed
from holdfast_tui.insights import Insights
from holdfast_tui.keys.key import Key
from holdfast_tui.messages import CatalogueSeen, JobsSeen, Said, StoreSeen, TasksSeen
from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.request import How, Request, Target
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.options import Options
from holdfast_tui.reader import Reader
from holdfast_tui.render.look import Look
from holdfast_tui.render.theme import RICH_THEMES, Palette, palette, textual_themes
from holdfast_tui.screens import VIEWS
from holdfast_tui.screens.view import View
from holdfast_tui.state import ViewState
from holdfast_tui.widgets.bars import KeyBar, TopBar
from holdfast_tui.widgets.prompt import PromptRow

DAY_S: Final = 86_400
_TTY_LOOK_S: Final = 1.0
_DIALOGS_MAX: Final = 3  # above each other
Answer = TypeVar("Answer")


class HoldfastApp(App[str], inherit_bindings=False):
    """The terminal UI of one run.

    Attributes:
        options: what it was started with.
        reader: reads stores, tasks and jobs; for threads only.
        clock: what everybody here takes for now.
        gate: what may be done at all.
        board, job_board, store_facts, catalogues: the newest facts of the feeds.
        views: those that were visited, by name.
    """

    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("app")
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    PAUSE_GC_ON_SCROLL = True
    HORIZONTAL_BREAKPOINTS = [(0, "-w60"), (80, "-w80"), (100, "-w100"), (140, "-w140")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-h15"), (24, "-h24"), (30, "-h30")]  # noqa: RUF012

    def __init__(
        self,
        options: Options,
        look: Look | None = None,
        *,
        reader: Reader | None = None,
        start_view: str = "dashboard",
        start_target: Target | None = None,
        live: bool = True,
        first: Sequence[StoreFacts] = (),
    ) -> None:
        self.look = look or Look()
        super().__init__(ansi_color=self.look.theme not in RICH_THEMES)
        self.options = options
        self.reader = reader or Reader(options)
        self.clock = self.reader.clock
        self.gate = keymap.Gate(read_only=options.read_only, no_content=options.no_content)
        self.insights = Insights(self.reader)
        self.state = ViewState(options.state_dir, is_writable=not options.read_only)
        self.host_name = os.uname().nodename
        self.board = TaskBoard()
        self.job_board = JobBoard()
        self.store_facts: dict[str, StoreFacts] = {}
        self.catalogues: dict[str, Catalogue] = {}
        self.views: dict[str, View] = {}
        self.view_name = ""
        self.is_paused = False
        self.palette: Palette = palette(self.look.theme)
        self.base_style = Style.null()
        self.last_visit_s = 0.0
        self._trail: list[tuple[str, Target | None]] = []
        self._start = (start_view, start_target)
        self._live = live
        self._first = first  # grows until the stores were looked at
        self._turn = 0
        self._showing = asyncio.Lock()  # one view is mounted at a time
        self._journal_feed: JournalFeed | None = None
        self._store_feeds: dict[str, StoreFeed] = {}
        self._launcher: Any = None
        self._asked = 0  # dialogs that were asked for and have not answered
        self._top_bar, self._key_bar = TopBar(id="top"), KeyBar(id="keys")
        for theme in textual_themes():
            self.register_theme(theme)
        self.set_reactive(App.theme, self.look.theme)  # before the first style sheet is read
        self.stylesheet.set_variables(self.get_css_variables())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Variables of our own in app.tcss, for themes that do not set them."""
        return {
            "rule": "ansi_bright_black",
            "rule-focus": "ansi_cyan",
            "faint": "ansi_bright_black",
            "pane-title": "ansi_default",
        }

    # Life -----------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield self._top_bar
        name, _target = self._start
        yield ContentSwitcher(_new_view(name), id="views", initial=f"view-{name}")
        yield PromptRow()
        yield self._key_bar

    def get_default_screen(self) -> Screen[Any]:
        """With the classes it will have, so that nothing is styled twice."""
        screen = super().get_default_screen()
        width, height = self.size
        screen.set_class(not self.look.unicode, "-ascii")
        screen.add_class(
            _last_below(width, self.HORIZONTAL_BREAKPOINTS),
            _last_below(height, self.VERTICAL_BREAKPOINTS),
        )
        return screen

    async def on_mount(self) -> None:
        self.use_theme(self.look.theme)
        self._install_signals()
        name, target = self._start
        self.store_facts = {facts.name: facts for facts in self._first}
        await self._show(name)
        if target is not None:
            self.views[name].open_target(target)
        if self._live:
            self.call_after_refresh(self._start_feeds)
        self.set_interval(_TTY_LOOK_S * 20, self._tick)

    def on_unmount(self) -> None:
        for feed in (self._journal_feed, *self._store_feeds.values()):
            if feed is not None:
                feed.stop()

    def _install_signals(self) -> None:
        if self.is_headless:
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(number, self._leave_at_once)
        self.set_interval(_TTY_LOOK_S, self._look_at_terminal)

    def _look_at_terminal(self) -> None:
        """Somebody may have ignored SIGHUP for us: a terminal that is gone ends the app too."""
        poll = select.poll()
        try:
            poll.register(sys.__stderr__.fileno() if sys.__stderr__ else 2, 0)
            gone = any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poll.poll(0))
        except (OSError, ValueError):
            gone = True
        if gone:
            self._leave_at_once()

    def _leave_at_once(self) -> None:
        self._remember()
        self.exit()

    def _remember(self) -> None:
        self.state.set("last-visit", self.clock.now_s())
        self.state.set("view", self.view_name)
        self.state.set("theme", self.look.theme)
        self.state.save()

    def _tick(self) -> None:
        self._update_bars()

    # Feeds ----------------------------------------------------------------------------------------

    def _start_feeds(self) -> None:
        live_s = 2.0 if self.look.slow else 1.0
        self._journal_feed = JournalFeed(self.reader, self.post_message, live_s=live_s)
        self._journal_feed.start()
        self.background(self._start_store_feeds, group="stores")

    async def _start_store_feeds(self) -> None:
        from holdfast.errors import HoldfastError

        def begin() -> list[str]:
            self.state.load()
            return [settings.name for settings in self.reader.store_settings()]

        try:
            names = await asyncio.to_thread(begin)
        except HoldfastError as error:
            self.say_error(error)
            names = []
        self.last_visit_s = self.state.number("last-visit")
        self._follow_stores(names)
        if not names and not self.has_offered_first_steps and not self.gate.read_only:
            self.has_offered_first_steps = True
            from holdfast_tui.dialogs.wizard import Wizard

            self.show(Wizard())

    def _follow_stores(self, names: Sequence[str]) -> None:
        """Begin with stores that are new and end with those that are gone."""
        for name in [name for name in self._store_feeds if name not in names]:
            self._store_feeds.pop(name).stop()
            self.store_facts.pop(name, None)
            self.catalogues.pop(name, None)
        for name in names:
            if name not in self._store_feeds:
                self.store_facts.setdefault(name, StoreFacts(name=name, path=""))
                feed = StoreFeed(self.reader, name, self.post_message)
                self._store_feeds[name] = feed
                feed.start()
        self.store_facts = {name: self.store_facts[name] for name in names}
        self.has_looked_for_stores = True
        self._pass_on(lambda view: view.stores_seen(list(self.store_facts.values())))

    has_looked_for_stores = False
    has_offered_first_steps = False

    def look_soon(self) -> None:
        """Have the feeds read again, without waiting for a change."""
        for feed in self._store_feeds.values():
            feed.look_soon()
        if self._journal_feed is not None:
            self.background(partial(asyncio.to_thread, self._journal_feed.look_now), group="look")
        self.background(self._start_store_feeds, group="stores")

    @property
    def watch_note(self) -> str:
        """Said where live data is shown, when it comes by polling."""
        feeds = [feed for feed in (self._journal_feed, *self._store_feeds.values()) if feed]
        return "looks every few seconds" if any(feed.watch.is_polling for feed in feeds) else ""

    def _pass_on(self, tell: Callable[[View], None]) -> None:
        view = self.view
        if view is None or not (self.is_running and view.is_attached and view.children):
            return  # the app is being taken apart
        if not self.is_paused:
            tell(view)
        self._update_bars()

    def on_tasks_seen(self, message: TasksSeen) -> None:
        before = self.board
        self.board = message.board
        self._say_ended(before)
        self._pass_on(lambda view: view.tasks_seen(self.board))

    def _say_ended(self, before: TaskBoard) -> None:
        """One line for every task that ended since the last look."""
        for task in before.running:
            now = self.board.by_upid.get(task.upid)
            if now is not None and not now.is_running:
                style = "good" if now.word == "ok" else "warn" if now.word == "warning" else "bad"
                about = f": {now.message}" if now.message else ""
                self.say(f"{now.kind} {now.subject} ended: {now.word}{about}", style)

    def on_jobs_seen(self, message: JobsSeen) -> None:
        self.job_board = message.board
        self._pass_on(lambda view: view.jobs_seen(self.job_board))

    def on_store_seen(self, message: StoreSeen) -> None:
        facts = message.facts
        if facts.name not in self._store_feeds and self._live:
            return
        known = self.store_facts.get(facts.name)
        if known is not None and facts.snapshots is None and facts.is_open:
            facts = _with_old_counts(facts, known)
        self.store_facts[facts.name] = facts
        self._pass_on(lambda view: view.stores_seen(list(self.store_facts.values())))

    def on_catalogue_seen(self, message: CatalogueSeen) -> None:
        self.catalogues[message.catalogue.store] = message.catalogue
        self._pass_on(lambda view: view.catalogue_seen(message.catalogue))

    def on_said(self, message: Said) -> None:
        self.say(message.text, message.style)

    # Views ----------------------------------------------------------------------------------------

    @property
    def view(self) -> View | None:
        """The one that is shown."""
        return self.views.get(self.view_name)

    def go(
        self,
        name: str,
        target: Target | None = None,
        *,
        then: Callable[[], None] | None = None,
        remember: bool = True,
    ) -> None:
        """Show a view, and in it the target. Esc and q come back from there."""
        self._turn += 1
        turn = self._turn

        async def run() -> None:
            async with self._showing:
                if turn != self._turn and target is None:
                    return  # somebody was faster and wants to be elsewhere
                if remember and self.view_name and self.view_name != name:
                    self._trail = [*self._trail[-20:], (self.view_name, None)]
                await self._show(name)
            view = self.views[name]
            if target is not None:
                view.open_target(target)
            if then is not None:
                then()
            self._update_bars()

        self.background(run, group="go")

    async def _show(self, name: str) -> None:
        if name not in self.views:
            switcher = self.query_one("#views", ContentSwitcher)
            if name != self._start[0]:
                await switcher.add_content(_new_view(name))
            self.views[name] = switcher.query_one(f"#view-{name}", View)
        before = self.view
        if before is not None and self.view_name != name:
            before.is_shown = False
            before.hidden()
        self.view_name = name
        view = self.views[name]
        self.query_one("#views", ContentSwitcher).current = f"view-{name}"
        view.is_shown = True
        view.stores_seen(list(self.store_facts.values()))
        for catalogue in self.catalogues.values():
            view.catalogue_seen(catalogue)
        view.tasks_seen(self.board)
        view.jobs_seen(self.job_board)
        view.shown()
        self.focus_view()
        self.call_after_refresh(self._update_bars)

    def focus_view(self) -> None:
        """Give the focus back to the view (after a prompt or a dialog)."""
        if self.view is not None:
            self.view.focus_first()

    def crumbs(self) -> str:
        return "" if self.view is None else self.view.crumbs()

    @property
    def refusal(self) -> str:
        """Why nothing can be changed where one is; empty when it can."""
        return self.gate.read_only if self.view is None else self.view.refusal()

    @property
    def week_ago_s(self) -> float:
        """From when on failures are still shown on top."""
        return self.clock.now_s() - 7 * DAY_S

    def _update_bars(self) -> None:
        for bar in (self._top_bar, self._key_bar):
            if bar.is_attached:
                bar.update()

    def on_resize(self, event: Resize) -> None:
        del event
        self.call_after_refresh(self._update_bars)

    def on_descendant_focus(self) -> None:
        self._update_bars()

    # Colours --------------------------------------------------------------------------------------

    def use_theme(self, name: str) -> None:
        """Other colours from now on."""
        self.look = Look(unicode=self.look.unicode, theme=name, slow=self.look.slow)
        self.palette = palette(name)
        colours = RICH_THEMES.get(name)
        self.base_style = (
            Style.null() if colours is None else Style(color=colours.text, bgcolor=colours.ground)
        )
        self.ansi_color = name not in RICH_THEMES
        self.theme = name
        self.set_class(not self.look.unicode, "-ascii")
        self.screen.set_class(not self.look.unicode, "-ascii")
        for widget in self.query(Widget):
            widget.refresh()

    def background(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        group: str,
        exclusive: bool = False,
    ) -> None:
        """Run a coroutine function beside everything else; a newer exclusive one ends the older."""
        self.run_worker(work, group=group, exclusive=exclusive)  # type: ignore[arg-type]

    # Saying and asking ----------------------------------------------------------------------------

    def say(self, text: str, style: str = "text") -> None:
        """One line in the message row; from the event loop."""
        for row in self.query(PromptRow):
            row.say(text, style)

    def say_error(self, error: Exception) -> None:
        """One sentence what failed, one what to do."""
        hint = getattr(error, "hint", None)
        self.say(f"{error}{f' - {hint}' if hint else ''}", "bad")

    def ask_line(
        self,
        question: str,
        then: Callable[[str], None],
        *,
        value: str = "",
        live: Callable[[str], None] | None = None,
        given_up: Callable[[], None] | None = None,
        back: Widget | None = None,
        secret: bool = False,
    ) -> None:
        """Let the person type a line in the message row; see PromptRow.ask."""
        self.query_one(PromptRow).ask(
            question, then, value=value, live=live, given_up=given_up, back=back, secret=secret
        )

    def do(self, request: Request) -> None:
        """Ask, if the request wants that, then start it; say what became of it."""
        if self.gate.read_only:
            self.say(f"read-only: {request.title} is off ({self.gate.read_only})", "warn")
            return
        self.background(partial(self._do, request), group="do")

    async def _do(self, request: Request) -> None:
        word = await asyncio.to_thread(self.store_word, request.store)
        if request.confirm:
            from holdfast_tui.dialogs.confirm import Confirm

            commands = [request.words, *request.more]
            twin = " && ".join(self.options.twin(word, words) for words in commands)
            if not await self.ask(Confirm(request, twin)):
                self.say("nothing was changed")
                return
        self.say(f"{request.title} ...")
        upid = ""
        for words in (request.words, *request.more):
            outcome = await asyncio.to_thread(
                self.launch, request.how, word, words, secret=request.secret
            )
            if not outcome.is_ok:
                self.say(f"{request.title}: {outcome.said or 'it failed'}", "bad")
                self.look_soon()
                return
            upid = outcome.upid
        if request.how is How.DETACHED:
            self.say(f"{request.title}: started, safe to close  {upid}", "good")
        else:
            self.say(request.done or f"{request.title}: done", "good")
        self.look_soon()

    def store_word(self, store: str | None) -> str | None:
        from holdfast.errors import HoldfastError

        if store is None:
            return None
        try:
            return self.reader.store_word(store)
        except HoldfastError:
            return store

    def launch(
        self, how: How, store: str | None, words: Sequence[str], *, secret: bytes = b""
    ) -> Any:
        if self._launcher is None:
            from holdfast_tui.launcher import Launcher

            self._launcher = Launcher(self.options)
        if how is How.DETACHED:
            return self._launcher.start(store, words, secret=secret)
        return self._launcher.run(store, words, secret=secret)

    # Keys -----------------------------------------------------------------------------------------

    def run_key(self, key: Key) -> None:
        """Do what a key would do; for the palette."""
        view = self.view
        places: list[Widget] = [] if self.focused is None else [self.focused]
        if view is not None:
            places.append(view)
        name = key.action.partition("(")[0]
        for place in places:
            if hasattr(place, f"action_{name}"):
                self.call_later(self.run_action, key.action, default_namespace=place)
                return
        self.call_later(self.run_action, key.action, default_namespace=self)

    def on_key(self, event: events.Key) -> None:
        """A key nobody took: perhaps one that is off, then the reason is said.

        Or a letter for a line that was opened by the key before it: no key to act on any more.
        """
        view = self.view
        if view is None or self.screen.is_modal:
            return
        prompt = self.query_one(PromptRow)
        if prompt.is_typed_into and event.is_printable and event.character:
            event.stop()
            event.prevent_default()
            prompt.type_ahead(event.character)
            return
        key = keymap.of_key(event.key, view.tables())
        if key is not None and (reason := view.blocked(key)):
            event.stop()
            self.say(reason, "warn")

    def action_view(self, name: str) -> None:
        if name != self.view_name:
            self._trail.clear()
            self.go(name, remember=False)

    def action_pane(self, step: int) -> None:
        panes = [] if self.view is None else self.view.panes()
        if not panes:
            return
        at = panes.index(self.focused) if self.focused in panes else -step
        panes[(at + step) % len(panes)].focus()

    def action_focus_next(self) -> None:
        """Tab, which Textual's screens take before the app sees it."""
        if self.screen.is_modal:
            super().action_focus_next()
        else:
            self.action_pane(1)

    def action_focus_previous(self) -> None:
        if self.screen.is_modal:
            super().action_focus_previous()
        else:
            self.action_pane(-1)

    def action_filter(self) -> None:
        from holdfast_tui.widgets.rowlist import RowList

        rows = self.focused
        if not isinstance(rows, RowList):
            found = self.view.panes() if self.view is not None else []
            lists = [pane for pane in found if isinstance(pane, RowList)]
            if not lists:
                self.say("there is no list to filter here")
                return
            rows = lists[0]
        before = rows.filter_text
        self.ask_line(
            "/",
            rows.set_filter,
            value=before,
            live=rows.set_filter,
            given_up=lambda: rows.set_filter(before),
            back=rows,
        )

    def show(self, dialog: Screen[Any]) -> None:
        """Open a dialog whose answer nobody waits for."""
        if self._may_open():
            self.push_screen(dialog)

    async def ask(self, dialog: Screen[Answer]) -> Answer | None:
        """Open a dialog and wait for its answer; None when it gave none, or could not be opened.

        Not for exclusive workers: a dialog whose asker was ended could not be closed any more.
        """
        if not self._may_open():
            return None
        self._asked += 1  # it opens a moment later
        try:
            answer: Answer = await self.push_screen_wait(dialog)
        finally:
            self._asked -= 1
        return answer

    def _may_open(self) -> bool:
        """Keys that were typed ahead could pile dialogs up without an end."""
        return max(len(self.screen_stack) - 1, self._asked) < _DIALOGS_MAX

    def action_palette(self) -> None:
        self.background(self._palette, group="palette")

    async def _palette(self) -> None:
        from holdfast_tui import palette as commands
        from holdfast_tui.dialogs.picker import Picker

        picker = Picker("Command", commands.choices(self), free=commands.is_typed_command)
        answer = await self.ask(picker)
        if answer:
            commands.carry_out(self, answer)

    def action_help(self) -> None:
        from holdfast_tui.dialogs.help import Help

        if self.view is not None:
            self.show(Help(self.view, self.gate, self.look))

    def action_twin(self) -> None:
        view = self.view
        words = None if view is None else view.twin()
        if view is None or words is None:
            self.say("there is no command line for this")
            return
        self.background(partial(self._show_twin, view.twin_store(), words), group="twin")

    async def _show_twin(self, store: str | None, words: Sequence[str]) -> None:
        from holdfast_tui.dialogs.text import TextDialog
        from holdfast_tui.render.clean import clean

        text = self.options.twin(await asyncio.to_thread(self.store_word, store), words)
        width = max(20, min(86, int(self.size.width * 0.9) - 6))
        shown = clean(text)
        lines = [[(shown[at : at + width], "text")] for at in range(0, len(shown), width)]
        self.show(TextDialog("The same on the command line", lines, copied=text))

    def action_copy_name(self) -> None:
        text = "" if self.view is None else self.view.copy_text()
        if text:
            self.copy_to_clipboard(text)
            self.say(f"copied: {text}")
        else:
            self.say("there is no name to copy here")

    def action_step_back(self) -> None:
        view = self.view
        if view is not None and view.leave_state():
            self._update_bars()
        elif self._trail:
            name, target = self._trail.pop()
            self.go(name, target, remember=False)
        else:
            self.say("q quits; running jobs go on")

    def action_leave(self) -> None:
        view = self.view
        if self._trail and view is not None:
            name, target = self._trail.pop()
            self.go(name, target, remember=False)
        else:
            self.action_quit_now()

    def action_quit_now(self) -> None:
        self._remember()
        running = len(self.board.running)
        self.exit(
            f"{running} jobs keep running; `holdfast task list` shows them" if running else ""
        )

    def action_interrupt(self) -> None:
        self.say("q quits, Q at once; running jobs go on")

    def action_pause_live(self) -> None:
        self.is_paused = not self.is_paused
        self.say("live figures are paused, p goes on" if self.is_paused else "live again")
        if not self.is_paused:
            self._pass_on(lambda view: view.tasks_seen(self.board))
        self._update_bars()

    def action_reload(self) -> None:
        if self.view is not None:
            self.view.reload()
            self.say("reading again")

    def action_repaint(self) -> None:
        self.refresh(repaint=True, layout=True)

    def action_zoom(self) -> None:
        """The focused pane alone: its siblings go, up to the view."""
        view, focused = self.view, self.focused
        if view is None:
            return
        if view.has_class("-zoomed"):
            view.remove_class("-zoomed")
            for widget in view.query(".-put-away"):
                widget.remove_class("-put-away")
            return
        if focused not in view.panes():
            return
        view.add_class("-zoomed")
        node: Any = focused
        while node is not None and node is not view:
            for sibling in node.parent.children:
                if sibling is not node:
                    sibling.add_class("-put-away")
            node = node.parent


def _last_below(size: int, breakpoints: Sequence[tuple[int, str]]) -> str:
    return [name for least, name in breakpoints if least <= size][-1]


def _new_view(name: str) -> View:
    module, _colon, class_name = VIEWS[name].partition(":")
    view: View = getattr(importlib.import_module(module), class_name)()
    return view


def _with_old_counts(facts: StoreFacts, known: StoreFacts) -> StoreFacts:
    """Until the snapshots were read again, what was counted before still counts."""
    from dataclasses import replace

    return replace(
        facts,
        snapshots=known.snapshots,
        groups=known.groups,
        failed=known.failed,
        old=known.old,
        never=known.never,
        unfinished=known.unfinished,
        damaged=known.damaged,
        last_verify=known.last_verify,
        last_backup=known.last_backup,
    )
