"""OpenAI's Images API, for the clients that speak it already: the same queue, gallery and quotas behind it.

What goes over the wire was checked against the source of the ``openai`` package, 3.57.
"""
