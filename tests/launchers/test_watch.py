"""A sweep that is watched: what the page and the terminal say, whom the server answers, and that idle costs nothing."""

import http.client
import json
import re
import threading
import time

import pytest

from core import stop
from launchers.status import RunStatus
from launchers.sweeps import main as status
from launchers.watch.command import main
from launchers.watch.page import WatchPage
from launchers.watch.sentences import headline, progress
from launchers.watch.server import WatchServer
from launchers.watch.terminal import screen
from launchers.watch.totals import RunCost, totals_of
from launchers.watch.watched import Watched
from tests.launchers.test_status import SPEC, whole_run
from tests.support.browser import browser
from training.records import run_lock


def row(run, state, tokens, total=1000, note=""):
    return RunStatus(run, state, tokens, total, 2.5, note)


def test_time_left_is_flops_to_go_over_the_speed_of_what_runs():
    rows = [
        row("a", "complete", 1000),
        row("b", "running", 400),
        row("c", "missing", 0),
        row("d", "failed", 100),
    ]
    costs = {"a": RunCost(0, 1000, 2.0), "b": RunCost(200, 1000, 3.0), "c": RunCost(0, 1000, 5.0)}
    costs |= {"d": RunCost(0, 1000, 7.0)}
    totals = totals_of(rows, costs, {"b": 10.0})
    assert totals.done == 1000 * 2 + 200 * 3 + 100 * 7
    assert totals.all == 1000 * 2 + 800 * 3 + 1000 * 5 + 1000 * 7
    # A failed run is not waited for.
    assert totals.seconds_left == pytest.approx((600 * 3 + 1000 * 5) / (10 * 3))
    assert headline(totals) == "1 of 4 runs done, 1 running, 1 failed, 1 missing"
    assert progress(totals).startswith("20% of 1.64e+04 FLOPs; 10 tokens/s; about 3:47 left, ends ")
    # What was seen for minutes counts evaluation and compilation too: 300 FLOPs in 100 seconds.
    seen = totals_of(rows, costs, {"b": 10.0}, [(0.0, totals.done - 300)], 100.0)
    assert seen.seconds_left == pytest.approx(6800 / 3.0)
    idle = totals_of([row("c", "missing", 0)], costs, {})
    assert idle.seconds_left is None and progress(idle).endswith("nothing is running")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """One run that a process holds, half trained, one that failed, one that sweep.json alone could name."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    run = whole_run(folder)
    run.result.unlink()
    lines = run.metrics.read_text().splitlines()[: SPEC.steps // 2]
    rows = [json.loads(line) | {"tokens_per_second": 50.0, "lr": 1e-3, "grad_norm": 0.5} for line in lines]
    run.metrics.write_text("".join(json.dumps(one) + "\n" for one in rows))
    failed = folder / "w8-failed"
    failed.mkdir()
    (failed / "spec.json").write_text('{"<script>alert(1)</script>": 1}')
    with run_lock(run.path):
        yield folder


@pytest.fixture(scope="module")
def server(sweep):
    with WatchServer(WatchPage(sweep), 0, 0.2) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def test_the_page_says_what_runs_and_what_failed_and_escapes_it(server):
    answer, page = ask(server)
    assert answer.status == 200
    assert "0 of 2 runs done, 1 running, 1 broken" in page
    assert "50 tokens/s" in page and SPEC.run_id in page and "<svg" in page
    assert "unknown key &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-")
    assert "http" not in policy and "*" not in policy and "unsafe" not in policy


def test_what_has_not_changed_is_neither_drawn_nor_sent_again(server, sweep):
    answer, _ = ask(server, "/state")
    drawn = server.page.drawn
    time.sleep(0.2)
    again, body = ask(server, "/state", **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status, body, server.page.drawn) == (304, "", drawn)
    with (sweep / SPEC.run_id / "metrics.jsonl").open("a") as log:
        log.write('{"tokens": 99, "lo')  # a torn row is named and nothing more
    time.sleep(0.2)
    after, body = ask(server, "/state", **{"If-None-Match": answer.headers["ETag"]})
    assert (after.status, server.page.drawn) == (200, drawn + 1)
    assert f"{SPEC.run_id}/metrics.jsonl: 1 line is torn and left out" in json.loads(body)["problems"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {"Host": "evil.example"}, 403),
        ("/state", {"Host": "evil.example:80"}, 403),
        ("/../small/sweep.json", {}, 404),
        ("/%2e%2e/%2e%2e/etc/passwd", {}, 404),
        (f"/{SPEC.run_id}/", {}, 404),
        ("/report/", {}, 404),
        ("/report.html", {}, 404),
        ("/?x=1", {}, 404),
    ],
)
def test_nothing_else_is_served_and_no_other_host(server, path, headers, status):
    assert ask(server, path, **headers)[0].status == status


def test_it_is_read_only_and_for_this_machine(server):
    assert ask(server, method="POST")[0].status == 501
    assert ask(server, method="HEAD")[1] == ""
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, Host=f"localhost:{server.server_port}")[0].status == 200


def test_the_last_report_is_linked_unless_it_lies_elsewhere(server, sweep, tmp_path):
    (tmp_path / "report.html").write_text("secret")
    (sweep / "report").symlink_to(tmp_path)
    assert ask(server, "/report.html")[0].status == 404
    (sweep / "report").unlink()
    (sweep / "report").mkdir()
    (sweep / "report" / "report.html").write_text("<p>mine</p>")
    answer, page = ask(server, "/report.html")
    assert (answer.status, page) == (200, "<p>mine</p>")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    time.sleep(0.2)
    assert '<a href="/report.html">The last report</a>' in json.loads(ask(server, "/state")[1])["about"]


def test_an_empty_sweep_and_one_that_vanishes_are_a_sentence(tmp_path):
    (tmp_path / "s").mkdir()
    page = WatchPage(tmp_path / "s")
    assert "holds no run" in page.parts()["head"]
    run = whole_run(tmp_path / "s")
    assert "1 of 1 runs done" in page.parts()["head"]
    (tmp_path / "s").rename(tmp_path / "t")
    assert "no such sweep" in page.parts()["head"] and page.parts()["curves"] == ""
    assert run.path.name == SPEC.run_id


def test_the_command_is_refused_and_ends_in_a_line(tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match="no such sweep"):
        main([str(tmp_path / "none")])
    whole_run(tmp_path / "s")
    with WatchServer(WatchPage(tmp_path / "s"), 0, 5.0) as taken, pytest.raises(ValueError, match="in use"):
        main([str(tmp_path / "s"), "--port", str(taken.server_port)])

    def interrupted(self, poll_interval=0.5):
        raise stop.StopRequested("stopped by SIGINT")

    monkeypatch.setattr(WatchServer, "serve_forever", interrupted)
    assert main([str(tmp_path / "s")]) == 0
    assert re.search(r"http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\n", capsys.readouterr().out)


def test_status_watch_ends_when_nothing_is_left(tmp_path, capsys, monkeypatch):
    run = whole_run(tmp_path / "s")
    content = run.result.read_bytes()
    run.result.unlink()
    monkeypatch.setattr("launchers.watch.terminal.time.sleep", lambda seconds: run.result.write_bytes(content))
    assert status([str(tmp_path / "s"), "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 of 1 runs done, 1 stopped; 100% of ")
    assert lines[1].startswith("1 of 1 runs done; 100% of ")
    assert "1 runs: 1 complete" in "\n".join(lines[2:])
    with pytest.raises(ValueError, match="of one sweep"):
        status(["--watch"])
    with pytest.raises(ValueError, match="not with --json"):
        status([str(tmp_path / "s"), "--watch", "--json"])


def test_the_screen_is_80_columns_wide_and_as_long_as_the_terminal(sweep):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen(Watched(sweep).look(), 10))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(SPEC.run_id in line and "50 tokens/s" in line for line in lines)


@pytest.mark.slow
def test_in_a_browser_it_renews_itself_keeps_its_place_and_fits_the_screen(server, sweep, tmp_path):
    with browser() as page:
        for width, dark in ((390, True), (1280, False)):
            page.open(server.address, width=width, height=500, dark=dark)
            page.run("document.body.append(Object.assign(document.createElement('div'), {className: 'tall'}))")
            page.run("document.querySelector('.tall').innerHTML = '<br>'.repeat(200); scrollTo(0, 300)")
            wait(page, "document.getElementById('state').textContent.startsWith('Looked at')")
            assert page.run("document.documentElement.scrollWidth <= innerWidth")
            assert page.run("document.querySelectorAll('figure svg polyline').length") >= 1
            page.run("window.kept = document.querySelector('#part-curves svg')")
            with (sweep / SPEC.run_id / "error.txt").open("w") as error:
                error.write(f"out of memory at {width}\n")
            wait(page, f"document.body.textContent.includes('out of memory at {width}')")
            assert page.run("scrollY") == 300
            page.screenshot(tmp_path / f"{width}.png")
            assert page.errors == []
            assert (page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") == (
                not dark
            )
        (sweep / SPEC.run_id / "error.txt").unlink()


def wait(page, condition):
    deadline = time.monotonic() + 20
    while not page.run(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)
