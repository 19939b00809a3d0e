"""An S3 server in the test's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def running_s3() -> Iterator[str]:
    """Run it, with the bucket "mail" and its credentials in the environment; give its address."""
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    before = dict(os.environ)
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    import boto3

    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="mail")
    try:
        yield address
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)
