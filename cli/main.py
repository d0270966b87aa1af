"""The `rowtide` command: its subcommands, and how errors become sentences and exit statuses.

Each command is a module that is loaded only when it is asked for: `show` and `runs` need no Prefect.
"""

import os
import signal
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from cyclopts import App, CycloptsError, CycloptsPanel, Group, Parameter

from cli import output, standard_streams
from cli.environment_checks import check_network, check_platform, explain_environment_error
from cli.exits import TABLE, Exit, unexpected_error_text
from cli.help_examples import help_epilogue
from cli.home_folders import home_folder
from cli.late_prefect import PrefectServerBlocks
from cli.output import print_error
from configuration.operator import with_operator
from rowtide import gc_tuning
from rowtide.errors import NoPassingVerdict, RowtideError, UserMistake
from rowtide.escaping import visible_text
from rowtide.late_imports import import_late
from rowtide.masking import mask_logs, register_secrets

# Prefect reads these when it is imported. Its own server's noise is not our user's concern; the ledger is.
QUIET_PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "ROWTIDE_LEDGER_FROM_ENVIRONMENT": "1",  # whatever a block says: the next command must find the run
}

# Each takes half a second or more, and only who asks the API, calls a tool or judges rows needs it.
LATE = ("scipy", "anthropic", "pandas", "rowtide.tools.tool_sessions")

app = App(
    name="rowtide",
    version=lambda: version("rowtide"),
    help="One small Claude agent per row, at batch price, and a ledger that never forgets where each row is.",
    help_format="plaintext",
    help_epilogue=TABLE,
    default_parameter=Parameter(negative=""),  # a flag is given or not given; --no-prefect is named where it is legal
    error_formatter=lambda error: CycloptsPanel(visible_text(error)),
    suppress_keyboard_interrupt=False,  # main() says how to go on, and tells SIGTERM from Ctrl-C
)
COMMANDS: dict[str, list[tuple[str, str, str]]] = {
    "Begin": [
        ("new", "cli.new:new", "Make a job out of a table, and try it at once on made-up answers."),
        ("doctor", "cli.doctor:doctor", "Look at key, ledger, Prefect and a job; say what to mend."),
        ("plan", "cli.plan:plan_", "Say what a run would likely cost and take, and ask nothing."),
        ("run", "cli.run:run", "Run a job over its rows."),
        ("resume", "cli.resume:resume", "Go on with a run, from the last committed row."),
    ],
    "Look": [
        ("jobs", "cli.jobs:jobs", "List the jobs here, each with its newest run."),
        ("runs", "cli.runs:runs", "List runs, newest first."),
        ("show", "cli.show:show", "Tell the whole story of one row."),
        ("results", "cli.results:results_", "Read accepted answers, wherever they were loaded."),
        ("report", "cli.report:report", "Draw a run as one page of HTML, also while it goes on."),
        ("slo", "cli.slo:slo", "Show what is promised of jobs, and how it is kept."),
    ],
    "Mend": [
        ("amend", "cli.amend:amend_", "Take the mended job into a run that has begun; keep what was paid."),
        ("recheck", "cli.recheck:recheck_", "Judge stored answers again, by today's checks; ask nothing."),
        ("reload", "cli.reload:reload_", "Load accepted answers again, into any sink."),
        ("reconcile", "cli.reconcile:reconcile", "Say what became of a batch that Rowtide will not guess about."),
        ("cancel", "cli.cancel:cancel", "Send nothing more for a run and cancel its open batches."),
        ("purge", "cli.purge:purge", "Delete what is old or personal; counts and money stay."),
    ],
    "Decide": [
        ("approve", "cli.approve:approve", "Let a run past a gate; allow or deny tool calls."),
        ("reject", "cli.approve:reject", "Reject a run that a gate holds: its rows are quarantined."),
    ],
    "Measure": [
        ("label", "cli.label:label", "Choose rows to label, and take labels as golden rows."),
        ("eval", "cli.eval:eval_", "Compare two versions of a job, and say whether the new one may run."),
        ("fit-router", "cli.fit_router:fit_router", "Learn from a job's history where its rows start."),
    ],
    "Serve": [
        ("serve", "cli.serve:serve", "Receive rows by webhook, and keep them until a run takes them."),
        ("metrics", "cli.metrics:metrics", "Serve figures of all runs for Prometheus."),
        ("emulator", "cli.emulator:emulator", "Serve a stand-in for the Claude API."),
    ],
}
QUARANTINE: list[tuple[str, str, str]] = [
    ("list", "cli.quarantine:list_", "List the reasons, with what can be done."),
    ("show", "cli.show:show", "Tell the whole story of one row."),
    ("export", "cli.quarantine:export", "Write the rows as a sheet, to be mended."),
    ("fix", "cli.quarantine:fix", "Take the mended sheet back: all of it, or nothing."),
    ("retry", "cli.quarantine:retry", "Send rows again, as part of the same run."),
    ("discard", "cli.quarantine:discard", "Give rows up; they stay counted."),
]

quarantine = App(
    name="quarantine",
    help="Look at what could not be verified; mend it, send it again.",
    help_epilogue=help_epilogue("quarantine"),
)
for title, commands in COMMANDS.items():
    group = Group.create_ordered(title)
    if title == "Mend":
        quarantine.group = group
        app.command(quarantine)
    for name, target, purpose in commands:
        app.command(target, name=name, help=purpose, help_epilogue=help_epilogue(name), group=group)
for name, target, purpose in QUARANTINE:
    quarantine.command(target, name=name, help=purpose, help_epilogue="")
app.command(
    "cli.install_completion:install_completion",
    name="--install-completion",
    help="Let the shell complete commands, options, jobs and runs on TAB.",
    help_epilogue="",
)


def main() -> None:
    """Run the command line. The exit statuses are in cli/exits.py."""
    os.umask(0o077)  # what it writes holds the customer's rows: nobody else's business, whatever the shell says
    sys.excepthook = _stumble
    gc_tuning.collect_rarely()
    import_late(*LATE)
    register_secrets(os.environ)
    mask_logs()
    for name, value in QUIET_PREFECT.items():
        os.environ.setdefault(name, value)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: (terminated.append(number), signal.raise_signal(signal.SIGINT)))
    try:
        check_platform(sys.platform)
        check_network(os.environ)  # before Prefect is imported: it opens certificates then
        with with_operator(PrefectServerBlocks()):
            status = app(exit_on_error=False) or 0
        standard_streams.flush_streams()
    except CycloptsError:
        status = Exit.MISTAKE  # cyclopts has said what was wrong
    except UserMistake as mistake:
        print_error(str(mistake))
        status = Exit.MISTAKE
    except NoPassingVerdict as held:
        print_error(f"{held}")
        status = Exit.HELD
    except RowtideError as error:
        print_error(f"{error}")
        status = Exit.STOPPED
    except BrokenPipeError as gone:
        standard_streams.abandon_output(gone)
        status = Exit.DONE
    except KeyboardInterrupt:
        print_error(f"stopped{_resume() or '; what was committed is kept'}")
        status = Exit.TERMINATED if terminated else Exit.INTERRUPTED
    sys.exit(status)


def _stumble(_: object, error: BaseException, __: object) -> None:
    """Report an unexpected error; its traceback goes into a file. Exits 1, or 2 where the environment is at fault."""
    if (words := explain_environment_error(error, home_folder())) is None:
        print_error(unexpected_error_text(error, home_folder(), output.at_work_on, now=datetime.now(UTC)))
        return
    print_error(f"{words}{_resume()}")
    os._exit(Exit.STOPPED if output.at_work_on else Exit.MISTAKE)


def _resume() -> str:
    """How to go on with the command's run; empty where it has none."""
    return f"; what was committed is kept: rowtide resume {output.at_work_on}" if output.at_work_on else ""
