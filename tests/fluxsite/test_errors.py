"""The API's answers when something behind it is away."""

import pytest
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from accounts.models import User


def test_a_database_that_is_away_is_a_503_with_a_time_to_come_back(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    client = APIClient(raise_request_exception=False)
    client.force_authenticate(alice)
    with connection.execute_wrapper(away):
        answer = client.get("/api/v1/jobs/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    (error,) = answer.json()["errors"]
    assert error["code"] == "database_away"
    assert error["detail"] == "The database does not answer. Try again in some seconds."
    assert "The database is away" in caplog.text
