"""A browser without a window or script: cookies by site, redirects, forms."""

import html
import http.client
import json
import re
import urllib.parse

from lib.process import Failed, must

REDIRECTS = 10


class Page:
    """What a browser shows: where it came from, the status and the text."""

    def __init__(self, url, status, text):
        self.url, self.status, self.text = url, status, text

    def __str__(self):
        words = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]*>", " ", self.text, flags=re.DOTALL))
        return f"{self.status} {self.url.split('?')[0]}: {words.strip()[:300]}"

    def has(self, action):
        return f'action="{action}"' in self.text

    def fields(self, action):
        """The hidden fields of the form with this action."""
        form = self.text.split(f'action="{action}"')[1].split("</form>")[0]
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
        return {name: html.unescape(value) for name, value in hidden}


class Browser:
    """Keeps cookies. `sites` says where an origin is to be found that is not on the network."""

    def __init__(self, sites=None):
        self.sites, self.cookies = sites or {}, {}

    def open(self, url, site="cross-site", referer=None):
        """Goes to a page, wherever it is sent on the way."""
        return self._navigate("GET", url, {"Sec-Fetch-Site": site, **({"Referer": referer} if referer else {})})

    def submit(self, page, action, **filled):
        """Sends the form of a page that has this action."""
        must(page.has(action), f"no form {action} on the page {page}")
        url = urllib.parse.urljoin(page.url, action)
        body = urllib.parse.urlencode({**page.fields(action), **filled})
        headers = {"Origin": origin(url), "Sec-Fetch-Site": "same-origin", "Referer": page.url,
                   "Content-Type": "application/x-www-form-urlencoded"}
        return self._navigate("POST", url, headers, body)

    def call(self, page, path, body, **headers):
        """What a script on a page does: a request with JSON; gives the JSON of the answer."""
        url = urllib.parse.urljoin(page.url, path)
        sent = {"Content-Type": "application/json", "Accept": "application/json", "Origin": origin(url),
                "Referer": page.url, "Sec-Fetch-Mode": "same-origin", "Sec-Fetch-Site": "same-origin",
                "Sec-Fetch-Dest": "empty", **headers}
        status, _, text = self._exchange("POST", url, sent, json.dumps(body))
        must(status == 200, f"{path}: {status} {text[:300]}")
        return json.loads(text)

    def cookie(self, url, name):
        return self.cookies.get(origin(url), {}).get(name)

    def _navigate(self, method, url, headers, body=None):
        for _ in range(REDIRECTS):
            sent = {"Accept": "text/html", "Accept-Language": "en", "Sec-Fetch-Mode": "navigate",
                    "Sec-Fetch-Dest": "document", **headers}
            status, location, text = self._exchange(method, url, sent, body)
            if status not in (301, 302, 303):
                return Page(url, status, text)
            url, method, body = urllib.parse.urljoin(url, location), "GET", None
            headers.pop("Content-Type", None)
            headers.pop("Origin", None)
        raise Failed(f"sent on and on, at last to {url}")

    def _exchange(self, method, url, headers, body=None):
        parts = urllib.parse.urlsplit(url)
        address = urllib.parse.urlsplit(self.sites.get(origin(url), origin(url)))
        must(address.scheme == "http", f"{url} is not on this machine")
        jar = self.cookies.setdefault(origin(url), {})
        if jar:
            headers = {**headers, "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path, body, {"Host": parts.netloc, **headers})
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie") or []:
                name, value = line.split(";")[0].split("=", 1)
                jar.pop(name, None)
                if value and not re.search(r"max-age=0\b", line, re.IGNORECASE):
                    jar[name] = value
            return answer.status, answer.headers["Location"], answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as problem:
            raise Failed(f"{method} {url}: {type(problem).__name__} {problem}") from None
        finally:
            connection.close()


def origin(url):
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
