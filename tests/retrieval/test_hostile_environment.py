"""Passwords, proxies, certificates, full disks and signals: one sentence, an exit code, and a run that goes on."""

import contextlib
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from raw_server import RawServer, response
from standin import StandIn
from test_hostile_answers import cutout

from galmorph.errors import GalmorphError
from galmorph.retrieval.fetch import fetch

QUICK = {"rate": 1e5, "backoff_s": 0.01, "size": 8}
SECRET = "s3cr3t"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\n" + "".join(f"t{n},{n / 10},1\n" for n in range(40)))
    return tmp_path / "t.csv"


def galmorph(*arguments, **options):
    command = [sys.executable, "-c", "from galmorph.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONWARNINGS": "default", **options.pop("env", {})}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **options
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out + err


# Passwords


@pytest.mark.parametrize("way", ["decals", "hips", "sdss", "bricks"])
def test_a_password_reaches_the_server_only(tmp_path, monkeypatch, caplog, way):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "t.csv").write_text("name,ra,dec\na,10,0.01\nb,10.01,0.01\n")
    with StandIn(frame_shape=(240, 300)) as server:
        base = server.url.replace("//", f"//me:{SECRET}@")
        variables = {"SDSS_SKYSERVER_URL": base, "SDSS_SAS_URL": f"{base}/sas"}
        variables["BRICKS_URL"] = f"{base}/cfs/cosmo/data/legacysurvey"
        for name, value in variables.items():
            monkeypatch.setenv(f"GALMORPH_{name}", value)
        wish = {
            "decals": {"base_url": f"{base}/viewer", "way": "cutouts"},
            "hips": {"survey": "hips", "base_url": base},
            "sdss": {"survey": "sdss", "bands": "r"},
            "bricks": {"way": "bricks", "bands": "r"},
        }[way]
        summary = fetch(tmp_path / "t.csv", out=tmp_path / "o", **QUICK, **wish)
        assert summary.ok == 2
        assert all("Authorization" in request.headers for request in server.seen.requests)
        server.inject("404", times=None)
        with contextlib.suppress(GalmorphError):
            fetch(tmp_path / "t.csv", out=tmp_path / "p", retries=1, **QUICK, **wish)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in caplog.text


@pytest.mark.parametrize("target", ["http://other", "http://same", "https://same"])
def test_a_netrc_password_does_not_follow_a_redirect(tmp_path, monkeypatch, target):
    """Hosts and ports differ here; a redirect from https to http is of another origin too."""
    (tmp_path / "netrc").write_text(
        f"machine 127.0.0.1 login me password {SECRET}\ndefault login you password {SECRET}\n"
    )
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "t.csv").write_text("ra,dec\n10,1\n")
    with RawServer(lambda asked: response(cutout(asked.query))) as second:
        place = second.url.replace("127.0.0.1", "localhost") if "other" in target else second.url
        place = place.replace("http:", target.partition(":")[0] + ":")

        def away(asked):
            query = "&".join(f"{name}={value}" for name, value in asked.query.items())
            return response(b"", f"Location: {place}/fits-cutout?{query}", status="302 Found")

        with RawServer(away) as first, contextlib.suppress(GalmorphError):
            fetch(tmp_path / "t.csv", out=tmp_path / "o", base_url=first.url, retries=1, **QUICK)
        assert "Authorization" in first.seen[0].headers
        assert second.seen or "https" in target
        assert not any("Authorization" in asked.headers for asked in second.seen)


# Environment


@pytest.mark.parametrize(
    "variables",
    [
        {"SSL_CERT_FILE": "/nope"},
        {"SSL_CERT_FILE": "/etc/hostname"},
        {"HTTP_PROXY": f"socks9://me:{SECRET}@127.0.0.1:1"},
        {"ALL_PROXY": f"me:{SECRET}@[::"},
        {"HTTPS_PROXY": "http://127.0.0.1:99999"},
        {"HTTP_PROXY": "\x01"},
        {"ALL_PROXY": "http://"},
        {"NO_PROXY": "[", "HTTP_PROXY": "http://127.0.0.1:1"},
        {"NETRC": "/etc/hostname"},
        {"NETRC": "/dev/null/x"},
        {"GALMORPH_SDSS_SAS_URL": f"ftp://me:{SECRET}@host"},
        {"GALMORPH_BRICKS_URL": f"http://me:{SECRET}@host:99999"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_odd_environments(table, tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    survey = {"survey": "sdss"} if "GALMORPH_SDSS_SAS_URL" in variables else {"base_url": "http://127.0.0.1:1"}
    with pytest.raises(GalmorphError) as caught:
        fetch(table, out=tmp_path / "o", retries=1, timeout_s=2.0, **QUICK, **survey)
    assert SECRET not in str(caught.value)
    if name.startswith(("SSL", "GALMORPH")):
        assert name in str(caught.value)
        assert caught.value.exit_code == 2


# Disks


def test_a_limit_on_file_size(table, tmp_path):
    """The manifest grows beyond the limit: exit 3, and the next run goes on."""
    out = tmp_path / "o"
    arguments = ["fetch", "--catalog", table, "--out", out, "--size", 8, "--rate", 100]
    with StandIn() as server:
        arguments += ["--base-url", f"{server.url}/viewer"]
        limit = 40_000
        process = galmorph(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        code, text = finish(process)
        assert code == 3, text
        assert "run the same command again" in text
        assert finish(galmorph(*arguments))[0] == 0
    assert "ok" in (out / "targets.csv").read_text()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root for a small file system")
@pytest.mark.parametrize("kilobytes", [4, 40, 120, 300])
def test_a_small_file_system(table, tmp_path, kilobytes):
    """A real one, full at the start, in the manifest, and at a cutout."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with StandIn() as server:
        fetching = (
            f"{sys.executable} -c 'from galmorph.cli import main; main()' fetch --catalog {table} --out {disk}/o "
            f"--size 32 --rate 100 --base-url {server.url}/viewer"
        )
        script = (
            f"mount -t tmpfs -o size={kilobytes}k x {disk} && {{ {fetching}; echo exit $?; "
            f"mount -o remount,size=20m {disk} && {fetching}; echo exit $?; }}"
        )
        result = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False
        )
    if "permission denied" in result.stderr.lower():
        pytest.skip("this machine lets nobody mount")
    assert "Traceback" not in result.stderr
    assert result.stdout.split("\n")[:2] == ["exit 3", "exit 0"], result.stderr


def test_a_folder_that_goes_away(table, tmp_path):
    out = tmp_path / "o"
    with StandIn() as server, pytest.raises(GalmorphError) as caught:
        fetch(
            table, out=out, base_url=f"{server.url}/viewer", **QUICK,
            on_progress=lambda done, total: shutil.rmtree(out) if done == 5 else None,
        )  # fmt: skip
    assert caught.value.exit_code == 3


# Signals


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGHUP,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    ids=["HUP", "TERM twice", "INT, TERM, HUP"],
)
def test_signals(table, tmp_path, signals):
    out = tmp_path / "o"
    with StandIn() as server:
        server.latency = 0.05
        arguments = [
            "fetch",
            "--catalog",
            table,
            "--out",
            out,
            "--size",
            8,
            "--rate",
            20,
            "--base-url",
            f"{server.url}/viewer",
        ]
        process = galmorph(*arguments, preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in signals])
        deadline = time.monotonic() + 60
        while not list(out.glob("??/*.fits")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for number in signals:
            process.send_signal(number)
        code, _ = finish(process)
        assert code == 130
        done = len(list(out.glob("??/*.fits")))
        assert 0 < done < 40
        server.forget()
        server.latency = 0.0
        code, text = finish(galmorph(*[a if a != 20 else 100 for a in arguments]))
        assert (code, len(server.seen.requests)) == (0, 40 - done), text


def test_a_run_that_ignores_hup_goes_on(table, tmp_path):
    """As nohup starts it."""
    out = tmp_path / "o"
    with StandIn() as server:
        server.latency = 0.05
        process = galmorph(
            *(
                "fetch",
                "--catalog",
                table,
                "--out",
                out,
                "--size",
                8,
                "--rate",
                60,
                "--base-url",
                f"{server.url}/viewer",
            ),
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        while not list(out.glob("??/*.fits")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        assert finish(process)[0] == 0
