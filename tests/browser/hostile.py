"""Pages that try what no page may. Each attempt is an expression in the page's own script; what came of it is the name
of the exception, or what it got."""

from __future__ import annotations

import json
from collections.abc import Mapping

WRITER = """<!doctype html><meta charset=utf-8><title>hostile</title><body><script>
const put = (tag, url) => {
  const made = Object.assign(document.createElement(tag), {src: url});
  document.body.append(made);
  return new Promise((yes) => { made.onload = made.onerror = () => yes(made); });
};
const opened = (socket) => new Promise((yes, no) => {
  socket.onopen = () => yes('open');
  socket.onerror = () => no({name: 'refused'});
});
const late = () => new Promise((_, no) => setTimeout(no, 5000, {name: 'nothing within 5 s'}));
const attempts = {%s};
window.found = (async () => {
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try { found[name] = `got ${await Promise.race([attempt(), late()])}`; } catch (error) { found[name] = error.name; }
  }
  return found;
})();
</script></body>
"""

Attempts = Mapping[str, str]

REFUSED = "SecurityError"
UNREADABLE = "TypeError"  # as `fetch` says that it may not
NOTHING = "got "

OWN = {
    "local storage": "localStorage.setItem('left', 'here')",
    "session storage": "sessionStorage.setItem('left', 'here')",
    "databases": """new Promise((yes, no) => {
        const asked = indexedDB.open('left');
        asked.onsuccess = () => yes('it');
        asked.onerror = () => no(asked.error);
    })""",
    "caches": "caches.open('left')",
    "reading cookies": "document.cookie",
    "writing cookies": "document.cookie = 'left=here; path=/'",
    "a service worker": "navigator.serviceWorker.register('worker.js')",
}
"""What belongs to an origin."""


def page(attempts: Attempts) -> str:
    return WRITER % ",".join(f"{json.dumps(name)}: async () => ({code})" for name, code in attempts.items())


def reading(urls: Mapping[str, str]) -> Attempts:
    """By name of who is read."""
    made: dict[str, str] = {}
    for whose, url in urls.items():
        to = json.dumps(url)
        made |= {
            f"fetching {whose}": f"(await fetch({to})).text()",
            f"fetching {whose} with cookies": f"(await fetch({to}, {{credentials: 'include'}})).text()",
            f"fetching {whose} with a header": f"(await fetch({to}, {{headers: {{'X-API-Key': 'e2b_0'}}}})).text()",
            f"fetching {whose} unseen": f"(await fetch({to}, {{mode: 'no-cors', credentials: 'include'}})).text()",
            f"framing {whose}": f"(await put('iframe', {to})).contentWindow.document.body.innerHTML",
        }
    return made


def unread(whose: str) -> dict[str, str]:
    """What comes of it."""
    return {
        f"fetching {whose}": UNREADABLE,
        f"fetching {whose} with cookies": UNREADABLE,
        f"fetching {whose} with a header": UNREADABLE,
        f"fetching {whose} unseen": NOTHING,
        f"framing {whose}": REFUSED,
    }
