"""Pages of the HTML report, made as the command makes them."""

from writeahead.cli.context import CommandContext
from writeahead.cli.reports import next_step_of
from writeahead.report.html.gather import Wanted, gather
from writeahead.report.html.render import render
from writeahead.report.html.rows import is_marked

STORE = "s3://crm-writeback/prod"


def report_of(day, **wanted):
    context = CommandContext(store=STORE, adapter="tests.web.demo_store:Crm")
    return gather(
        day.store,
        Wanted(**wanted),
        now=day.clock.now(),
        clock_skew=5,
        version="0.1.0",
        next_step=lambda page: next_step_of(page, context, marked=is_marked(page)),
    )


def page_of(day, **wanted):
    return render(report_of(day, **wanted))
