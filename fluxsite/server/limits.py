"""Every time limit, rate and cap of the web server. Times are in seconds."""

# The header of a request must be complete this long after the connection opens, in at most so many bytes.
HEADER_SECONDS = 15
HEADER_BYTES = 64 * 1024
# A body up to this size is read completely before a thread takes the request; a longer one, or one of unknown
# length, is read by the view while it arrives. The largest body of a form is well below.
WHOLE_BODY_BYTES = 1_000_000
# All requests that are not complete yet may occupy this much memory together.
INCOMPLETE_BYTES = 64_000_000
# A body, and an answer that a thread is sending, must move on by this much within this time of waiting for
# the client: 2 kB/s. Loopback moves data in steps of up to 64 KiB, so a smaller step would measure the same.
STEP_BYTES = 64 * 1024
STEP_SECONDS = 30
# An answer that needs no thread any more may be read more slowly: the client must take something in this
# time. A reader at 1 kB/s takes a step of 64 KiB in 65 s.
READER_SECONDS = 120
# What answers without a thread may occupy in memory together. Files are not read into memory.
ANSWER_BYTES = 64_000_000
# A connection that the server has ended stays open this long for the client to read the last bytes.
LINGER_SECONDS = 2
# When the server stops, incomplete requests have this long to arrive,
STOPPING_REQUEST_SECONDS = 2
# and requests that wait for a picture wait this long. Gunicorn ends everything after 30 s.
STOPPING_WAIT_SECONDS = 10

CONNECTIONS = 2000
# Threads by what occupies them for long. A place for requests that wait for a picture is
# FLUXSITE_WAITING_REQUESTS.
UPLOADS = 32
UPLOADS_OF_ONE_ADDRESS = UPLOADS // 2
STREAMS = 48
STREAMS_OF_ONE_CLIENT = 8
# Threads that none of the above may use.
SPARE_THREADS = 32
RETRY_AFTER_SECONDS = 5


def threads(waiting_requests: int) -> int:
    """As many as all long requests that are admitted together, and the spare ones."""
    return UPLOADS + STREAMS + waiting_requests + SPARE_THREADS
