"""Lists by cursor: a page costs the same at picture 50 and at picture 1,000,000."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """Newest first. Ids are UUIDv7, so their order is the order of time, and they are unique."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
