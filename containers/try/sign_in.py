"""Sign a student in to the hub of this container, and wait for the student's own JupyterLab."""

import http.cookiejar
import time
import urllib.parse
import urllib.request

HUB = "http://127.0.0.1:8000"
cookies = http.cookiejar.CookieJar()
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
browser.open(f"{HUB}/hub/login").close()
token = next(cookie.value for cookie in cookies if cookie.name == "_xsrf")
form = urllib.parse.urlencode({"username": "ada", "password": "a password", "_xsrf": token}).encode()
browser.open(f"{HUB}/hub/login?next=/hub/spawn", form).close()
for _ in range(60):
    page = browser.open(f"{HUB}/user/ada/lab").read().decode()
    if "jupyter-config-data" in page:
        print("ada has signed in; her JupyterLab is there")
        break
    time.sleep(1)
else:
    raise SystemExit(f"no JupyterLab for ada: {page[:500]}")
