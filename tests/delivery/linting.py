"""Answers over HTTP, as ``httplint`` sees them; a note that stands has a reason."""

import httpx
from httplint import HttpRequestLinter, HttpResponseLinter

# Notes that we know of, and why each stands. What is praised is no note.
KNOWN_NOTES = {
    "STORE_PUBLIC_UNNECESSARY": "it lets shared caches keep what was asked with a key",
    "CC_CONFLICTING": "private as well as no-store, for caches that know only one",
    "CDN_CACHE_CONTROL_PRESENT": "as meant: what shared caches alone may do",
    "STALE_IF_ERROR": "as meant: old prices that say so are better than none",
    "STALE_WHILE_REVALIDATE": "as meant: for two seconds, while a new one is fetched",
    "STORE_STORABLE": "as meant: reads and polls are for everybody",
    "STORE_NO_STORE": "as meant: errors, streams, and what is true only now",
    "STORE_PRIVATE_CC": "as meant: what a key was needed for",
    "STORE_UNSTORABLE": "a 304 has nothing to store",
    "FRESH_PROXY_REVALIDATE": "as meant: a poll is kept by shared caches, for a second",
    "FRESHNESS_NO_CACHE": "as meant: a page is asked for each time, mostly for a 304",
}
# It tells what the status of an answer means.
_OF_STATUS = "STATUS_"

_DATE = (b"Date", b"Fri, 20 Nov 2026 12:00:00 GMT")


async def travelled(asker: httpx.AsyncClient, sent: httpx.Request) -> httpx.Response:
    """Return an answer whose content is what was sent, however it is coded.

    Of a stream the first chunk is enough.
    """
    answer = await asker.send(sent, stream=True)
    raw = b""
    async for chunk in answer.aiter_raw():
        raw += chunk
        if answer.headers.get("content-type") == "text/event-stream":
            break
    await answer.aclose()
    answer._content = raw  # noqa: SLF001 - it would be decoded
    return answer


def lint(answer: httpx.Response) -> set[str]:
    """Return the linter's notes on an answer's head and body that have no reason."""
    request = HttpRequestLinter()
    sent = answer.request
    request.process_request_topline(
        sent.method.encode(), str(sent.url).encode(), b"HTTP/1.1"
    )
    request.process_headers(sent.headers.raw)
    request.finish_content(complete=True)
    response = HttpResponseLinter()
    response.request = request
    response.is_head_response = sent.method == "HEAD"
    response.process_response_topline(
        b"HTTP/1.1", str(answer.status_code).encode(), answer.reason_phrase.encode()
    )
    # Without a server in between nobody has put a date there.
    dated = [] if "date" in answer.headers else [_DATE]
    response.process_headers([*answer.headers.raw, *dated])
    if sent.method != "HEAD":
        response.feed_content(answer.content)
    response.finish_content(complete=True)
    notes = [note for note in response.notes if note.level.name != "GOOD"]
    said = {type(note).__name__ for note in notes} - set(KNOWN_NOTES)
    return {one for one in said if not one.startswith(_OF_STATUS)}
