"""The description as one HTML page for people: self-contained, no script, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import Final

from tidestore.api.openapi.parts import Json

_METHODS: Final = ("put", "post", "get", "head", "delete")
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #0a6; }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem }
h1 { margin: 0 } h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem }
a { color: var(--link) }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { background: var(--soft); overflow-x: auto; padding: .75rem; border-radius: 6px }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: 0 .75rem }
summary { cursor: pointer; padding: .5rem 0; overflow-wrap: anywhere }
summary b { display: inline-block; min-width: 4.5rem; font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { border-top: 1px solid var(--line); padding: .3rem .5rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
.soft { opacity: .75 }
"""
_FIRST_STEPS: Final = """\
TIDESTORE={url}
TOKEN=...            # `make run` prints one

# write a blob, under the hash of its bytes
SHA=$(sha256sum reads.fastq | cut -d' ' -f1)
curl -T reads.fastq -H "Authorization: Bearer $TOKEN" $TIDESTORE/v1/blobs/$SHA

# name it: a file is a uuid, a version that you choose, a name and a type
ID=$(uuidgen | tr A-Z a-z); VERSION=$(date -u +%Y-%m-%dT%H%M%S.%6NZ)
curl -X PUT -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{{"blob": "'$SHA'", "name": "reads.fastq", "content_type": "text/plain"}}' \\
  "$TIDESTORE/v1/files/$ID?version=$VERSION"

# see where it is, and read it from the best replica (-L follows the signed link)
curl $TIDESTORE/v1/files/$ID/copies
curl -LO -J $TIDESTORE/v1/files/$ID

# everything there is, page by page; how far each replica is behind
curl "$TIDESTORE/v1/files?limit=100"
curl $TIDESTORE/v1/replicas"""


def html_page(document: Json, url: str) -> str:
    """The page. `url` is the gateway's own address, for lines that can be pasted."""
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} <span class=soft>{escape(info['version'])}</span></h1>",
        *(f"<p>{_prose(text)}</p>" for text in info["description"].strip().split("\n\n")),
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
        f"<h2>First steps</h2><pre>{escape(_FIRST_STEPS.format(url=url))}</pre>",
    ]
    for tag in document["tags"]:
        parts.append(f'<h2 id="{tag["name"]}">{escape(tag["name"].capitalize())}</h2>')
        parts.append(f"<p>{_prose(tag['description'])}</p>")
        for path, operations in document["paths"].items():
            parts += [
                _operation(method, path, operations[method], url)
                for method in _METHODS
                if method in operations
                and operations[method]["tags"] == [tag["name"]]
                # HEAD is GET without the body, except where it does something of its own.
                and "x-like-get" not in operations[method]
            ]
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Json, url: str) -> str:
    needs_token = operation["security"] == [{"token": []}]
    rows = [
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}"
        f"{' (required)' if item['required'] else ''}</td>"
        f"<td>{_prose(item['description'])} {_bounds(item['schema'])}</td></tr>"
        for item in operation["parameters"]
    ]
    answers = [
        f"<tr><td>{status}</td><td>{_prose(reply['description'])}"
        f"{_headers(reply.get('headers', {}))}</td></tr>"
        for status, reply in sorted(operation["responses"].items())
    ]
    token = ' -H "Authorization: Bearer $TOKEN"' if needs_token else ""
    body = " -d @body.json" if "application/json" in _media(operation) else ""
    body = body or (" -T file" if "requestBody" in operation else "")
    verb = {"get": "", "head": " -I"}.get(method, f" -X {method.upper()}")
    required = "&".join(
        f"{item['name']}=..."
        for item in operation["parameters"]
        if item["in"] == "query" and item["required"]
    )
    target = url + path + (f"?{required}" if required else "")
    return "\n".join(
        [
            f'<details id="{operation["operationId"]}"><summary><b>{method.upper()}</b> '
            f"<code>{escape(path)}</code> <span class=soft>{_prose(operation['summary'])}"
            f"{' Needs a token.' if needs_token else ''}</span></summary>",
            f"<p>{_prose(operation.get('description', ''))}</p>",
            f"<pre>{escape(f'curl{verb}{token}{body} ')}'{escape(target)}'</pre>",
            "<table><tr><th>Parameter</th><th>In</th><th></th></tr>" + "".join(rows) + "</table>"
            if rows
            else "",
            "<table><tr><th>Answer</th><th></th></tr>" + "".join(answers) + "</table></details>",
        ]
    )


def _media(operation: Json) -> Json:
    content: Json = operation.get("requestBody", {}).get("content", {})
    return content


def _headers(headers: Json) -> str:
    if not headers:
        return ""
    names = ", ".join(f"<code>{escape(name)}</code>" for name in headers)
    return f"<br><span class=soft>Headers: {names}</span>"


def _bounds(schema: Json) -> str:
    said = []
    if "enum" in schema:
        said.append("one of " + ", ".join(str(value) for value in schema["enum"]))
    if "minimum" in schema and "maximum" in schema:
        said.append(f"{schema['minimum']} to {schema['maximum']}")
    if "default" in schema:
        said.append(f"default {schema['default']}")
    if "pattern" in schema:
        said.append(schema["pattern"])
    return f"<br><span class=soft><code>{escape('; '.join(said))}</code></span>" if said else ""


def _prose(text: str) -> str:
    """Escaped, with `code` marked."""
    pieces = escape(text.strip()).split("`")
    return "".join(
        f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces)
    )
