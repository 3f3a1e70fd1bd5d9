# SPDX-License-Identifier: GPL-2.0-only
"""A sweep into S3: into moto's server on localhost, where that is installed."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECLAIM = Path(sys.executable).with_name("reclaim")
MISSING = "no S3 on localhost: pip install moto[server] boto3"
SERVER = Path(sys.executable).with_name("moto_server")
boto3 = pytest.importorskip("boto3", reason=MISSING)
pytestmark = pytest.mark.skipif(not SERVER.exists(), reason=MISSING)
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
ASKED = ("-p", "order=2,4", "-p", "map_size=64M", "-p", "reclaim_size=32M", "--jobs", "2")


@pytest.fixture(scope="module")
def s3():
    """Return a client of a server with one bucket, `sweeps`; it ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [SERVER, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
        **{name.lower(): value for name, value in KEYS.items()},
    )  # fmt: skip
    try:
        for _ in range(600):
            with socket.socket() as asked:
                if not asked.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        client.create_bucket(Bucket="sweeps")
        yield client
    finally:
        server.terminate()
        server.wait()


def sweep(s3, out, *words):
    # The address is in a variable of papermill's own.
    environment = os.environ | KEYS | {"BOTO3_ENDPOINT_URL": s3.meta.endpoint_url}
    command = [RECLAIM, "sweep", "02_simulate_reclaim", *ASKED, *words, "--out", out]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def content(s3, key) -> str:
    return s3.get_object(Bucket="sweeps", Key=key)["Body"].read().decode()


def keys(s3) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket="sweeps")["Contents"]]


def test_each_point_is_in_the_bucket_and_runs_once(s3):
    first = sweep(s3, "s3://sweeps/deep/in/")
    assert first.returncode == 0, first.stderr
    assert all(key.startswith("deep/in/") for key in keys(s3))
    records = [json.loads(content(s3, key)) for key in keys(s3) if key.endswith("point.json")]
    assert sorted(record["parameters"]["order"] for record in records) == [2, 4]
    for record in records:
        executed = f"deep/in/points/{record['id']}/notebooks/02_simulate_reclaim.ipynb"
        cells = json.loads(content(s3, executed))["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    table = content(s3, "deep/in/02_simulate_reclaim.csv")
    again = sweep(s3, "s3://sweeps/deep/in")
    assert again.returncode == 0
    assert again.stdout.startswith("2 points: 2 done before, 0 to run\n")
    assert content(s3, "deep/in/02_simulate_reclaim.csv") == table


def test_a_bucket_that_is_not_there_is_told_before_a_point_is_run(s3):
    done = sweep(s3, "s3://nowhere/deep")
    assert (done.returncode, done.stdout) == (2, "")
    assert "NoSuchBucket" in done.stderr
    assert len(done.stderr.splitlines()) == 1
