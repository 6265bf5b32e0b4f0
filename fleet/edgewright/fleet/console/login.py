"""What a browser sees that has not used the login link yet."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from .headers import SECURITY_HEADERS

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Edgewright fleet: log in</title></head>
<body><main>
<h1>Log in</h1>
<p>Open the link that <code>edgewright fleet serve</code> printed when it started:</p>
<pre>http://ADDRESS/?token=TOKEN</pre>
<p>The token is in the file <code>admin.token</code> in the server's data directory.
If you came by such a link, its token is not that of this fleet.</p>
</main></body>
</html>
"""


def login_page() -> HTMLResponse:
    """Return the page, with the status that says that a login is needed."""
    return HTMLResponse(PAGE, status_code=401, headers=SECURITY_HEADERS | {"WWW-Authenticate": "Bearer"})
