"""`mertd view`: one page in a browser that shows what is alive, what changes, and what sounded like this before.

`listener` follows a daemon as any client does and keeps a `Board`; `feed` sends what is new to all browsers; `web_app` has the
routes and `guard` decides who may call them; `site` has the page, its style and its scripts, which are sent as they are.
"""
