"""One function a validator: files in, the version of the validator and what it refuses out.

Each raises ModuleNotFoundError where the validator is not installed. All of them read from a folder of their own in
which the package lies; none reaches the network.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json as json_module
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mainstay.architect.design.generated import Example

UNASKED = {
    "asyncapi-info-license": "off",
    "asyncapi-info-license-url": "off",
    "asyncapi-info-contact-properties": "off",
}
"""Rules of Spectral for what a blueprint has no word for, and what may not be invented: a licence, an address."""
Said = tuple[str, dict[str, str]]
"""The validator's version, and by path in one sentence why it refuses a file."""
Warned = dict[str, list[str]]
"""By path, in one sentence each, what a validator takes and would have otherwise."""
SECONDS = 300.0
"""After which a validator in a process of its own is given up."""


class Refused(Exception):
    """A validator could not do its work; the message is one sentence."""


def version(distribution: str) -> str:
    """Of an installed distribution; empty where it is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def openapi(folder: Path, paths: Sequence[str]) -> Said:
    """openapi-spec-validator: every document against OpenAPI 3.1, references resolved."""
    import yaml
    from openapi_spec_validator import OpenAPIV31SpecValidator

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    refused = {}
    for path in paths:
        text = (folder / path).read_text(encoding="utf-8")
        document = yaml.load(text, Loader=loader)
        try:
            error = next(iter(OpenAPIV31SpecValidator(document).iter_errors()), None)
        except Exception as unreadable:  # a reference that leads nowhere comes as any of several classes
            refused[path] = _sentence(unreadable)
            continue
        if error is not None:
            refused[path] = _located(error)
    return version("openapi-spec-validator"), refused


def asyncapi(folder: Path, paths: Sequence[str], modules: Path) -> Said:
    """The parser of the AsyncAPI initiative; its errors refuse, its hints do not."""
    parser = modules / "@asyncapi" / "parser"
    program = """
        const [parser, ...files] = process.argv.slice(1), fs = require("fs");
        const { Parser } = require(parser);
        (async () => {
          const said = {};
          for (const file of files) {
            const { diagnostics } = await new Parser().parse(fs.readFileSync(file, "utf8"));
            const wrong = diagnostics.filter((one) => one.severity === 0);
            if (wrong.length) said[file] = `${wrong[0].path.join(".")}: ${wrong[0].message}`;
          }
          console.log(JSON.stringify(said));
        })();
    """
    done = _process(["node", "-e", program, str(parser.resolve()), *paths], folder)
    try:
        refused = json_module.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise Refused(_sentence(done.stderr or done.stdout or "it ended without an answer")) from None
    return json_module.loads((parser / "package.json").read_text(encoding="utf-8"))["version"], refused


def asyncapi_shape(folder: Path, paths: Sequence[str]) -> Said:
    """Our own check of AsyncAPI 3.0 documents: the keys that must be there, and that every reference resolves."""
    import jsonschema
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    schema = jsonschema.Draft202012Validator(_ASYNCAPI)
    refused = {}
    for path in paths:
        document = yaml.load((folder / path).read_text(encoding="utf-8"), Loader=loader)
        error = next(schema.iter_errors(document), None)
        if error is not None:
            refused[path] = _located(error)
        elif lost := next((way for way in _references(document) if not _resolves(document, way)), None):
            refused[path] = f"{lost} leads nowhere"
    return "our schema", refused


def spectral(
    folder: Path, paths: Sequence[str], command: str, rules: str
) -> tuple[str, dict[str, str], Warned]:
    """Spectral with its recommended rules for ``oas`` or ``asyncapi``: its errors refuse, its warnings come third."""
    ruleset = folder / f".spectral-{rules}.json"
    own = {rule: UNASKED[rule] for rule in UNASKED if rule.startswith(rules)}
    ruleset.write_text(json_module.dumps({"extends": [f"spectral:{rules}"], "rules": own}), encoding="utf-8")
    done = _process(
        [command, "lint", "--ruleset", ruleset.name, "--format", "json", "--quiet", *paths], folder
    )
    found = re.search(r"^\[.*\]", done.stdout, re.DOTALL | re.MULTILINE)
    if found is None:
        raise Refused(_sentence(done.stderr or done.stdout or "it ended without an answer"))
    refused: dict[str, str] = {}
    warned: Warned = {}
    for one in json_module.loads(found[0]):
        path = Path(one["source"]).resolve().relative_to(folder.resolve()).as_posix()
        where = f"line {one['range']['start']['line'] + 1}"
        said = f"{where}: {_sentence(one['message'])} ({one['code']})"
        # It looks for the scopes of OAuth flows alone, which OpenID Connect and bearer schemes do not have.
        flowless = (
            one["code"] == "oas3-operation-security-defined" and "listed among scopes" in one["message"]
        )
        if one["severity"] == 0:
            refused.setdefault(path, said)
        elif one["severity"] == 1 and not flowless:
            warned.setdefault(path, []).append(said)
    return _process([command, "--version"], folder).stdout.strip(), refused, warned


def graphql(folder: Path, paths: Sequence[str]) -> Said:
    """graphql-core: each schema is built and checked; queries are checked against the schema beside them."""
    from graphql import (
        DocumentNode,
        GraphQLError,
        GraphQLSchema,
        OperationDefinitionNode,
        build_ast_schema,
        parse,
        validate,
        validate_schema,
    )

    refused: dict[str, str] = {}
    schemas: dict[str, GraphQLSchema] = {}
    queries: dict[str, DocumentNode] = {}
    for path in paths:
        try:
            document = parse((folder / path).read_text(encoding="utf-8"))
            if any(isinstance(one, OperationDefinitionNode) for one in document.definitions):
                queries[path] = document
                continue
            schema = build_ast_schema(document)
            if wrong := validate_schema(schema):
                raise wrong[0]
            schemas[path] = schema
        except (GraphQLError, TypeError) as error:
            refused[path] = _sentence(error)
    for path, document in queries.items():
        beside = [name for name in schemas if name.split(".")[0] == path.split(".")[0]]
        if not beside:
            refused[path] = "there is no valid schema beside it"
        elif errors := validate(schemas[beside[0]], document):
            refused[path] = _sentence(errors[0])
    return version("graphql-core"), refused


def protoc(folder: Path, paths: Sequence[str]) -> Said:
    """The compiler of protocol buffers, from grpcio-tools: everything compiles together."""
    found = importlib.util.find_spec("grpc_tools")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("grpc_tools")
    include = Path(found.origin).parent / "_proto"
    roots = _proto_roots(folder, paths)
    refused: dict[str, str] = {}
    for root, inner in roots.items():
        arguments = [f"-I{root}", f"-I{include}", f"--descriptor_set_out={os.devnull}", *inner]
        done = _process([sys.executable, "-m", "grpc_tools.protoc", *arguments], folder)
        if done.returncode:
            for line in (done.stderr or done.stdout).splitlines():
                name, _, said = line.partition(":")
                if name in inner:
                    refused.setdefault((root.relative_to(folder) / name).as_posix(), _sentence(said))
            if not refused:
                raise Refused(_sentence(done.stderr or done.stdout))
    return version("grpcio-tools"), refused


def buf(folder: Path, paths: Sequence[str]) -> Said:
    """`buf lint` with its rules STANDARD."""
    command = shutil.which("buf") or _beside_python("buf")
    if command is None:
        raise ModuleNotFoundError("buf")
    refused: dict[str, str] = {}
    for root in _proto_roots(folder, paths):
        if not (root / "buf.yaml").exists():
            (root / "buf.yaml").write_text("version: v2\nlint:\n  use: [STANDARD]\n", encoding="utf-8")
        done = _process([command, "lint", "--error-format", "json", "."], root)
        for line in done.stdout.splitlines():
            one = json_module.loads(line)
            path = (root.relative_to(folder) / one.get("path", "")).as_posix()
            said = f"line {one.get('start_line', 1)}: {one['message']} ({one['type']})"
            refused.setdefault(path, said)
        if done.returncode and not refused:
            raise Refused(_sentence(done.stderr or done.stdout))
    return _process([command, "--version"], folder).stdout.strip(), refused


def json_schema(folder: Path, paths: Sequence[str]) -> Said:
    """check-jsonschema: every schema against the metaschema that it names."""
    if not version("check-jsonschema"):
        raise ModuleNotFoundError("check-jsonschema")
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--check-metaschema",
        "--output-format",
        "json",
        *paths,
    ]
    done = _process(command, folder)
    try:
        said = json_module.loads(done.stdout)
    except ValueError:
        raise Refused(_sentence(done.stderr or done.stdout)) from None
    refused = {one["filename"]: _sentence(one["message"]) for one in said.get("errors", ())}
    refused |= {one["filename"]: _sentence(one.get("message", "")) for one in said.get("parse_errors", ())}
    return version("check-jsonschema"), refused


def mermaid(
    texts: Mapping[str, str], cache: Path | None = None
) -> tuple[str, dict[str, str], dict[str, str]]:
    """mermaidx draws every diagram; what it cannot draw is refused. The drawings come third, as SVG by path.

    Args:
        texts: Mermaid texts by path.
        cache: a folder with what was drawn before.
    """
    from mainstay.architect.design.site.drawing import draw_all, drawer

    if not version("mermaidx"):
        raise ModuleNotFoundError("mermaidx")
    refused: dict[str, str] = {}
    kept = drawer(list(texts.values()), cache)
    drawn = {path: svg for path, text in texts.items() if (svg := kept(text)) is not None}
    left = {path: text for path, text in texts.items() if path not in drawn}
    for path, (svg, error) in zip(left, draw_all(list(left.values())), strict=True):
        if error:
            refused[path] = _sentence(error)
        else:
            drawn[path] = svg
    return version("mermaidx"), refused, drawn


def json(folder: Path, paths: Sequence[str]) -> Said:
    """Our own check of JSON: it can be read."""
    refused = {}
    for path in paths:
        try:
            json_module.loads((folder / path).read_text(encoding="utf-8"))
        except ValueError as error:
            refused[path] = _sentence(error)
    return "us: it is JSON", refused


def links(folder: Path, paths: Sequence[str]) -> Said:
    """Our own check of Markdown: what it links to in the package is there."""
    refused = {}
    for path in paths:
        text = re.sub(
            r"```.*?```|`[^`\n]*`", "", (folder / path).read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            inside = ":" not in target and not target.startswith(("../../", "/"))
            if inside and "site/" not in target and not ((folder / path).parent / target).exists():
                refused[path] = f"it links to {target}, which is not there"
    return "us: its links resolve", refused


def examples(given: Sequence[Example]) -> list[str]:
    """What is wrong with examples, by name: each must be valid against its own schema, formats included."""
    import jsonschema

    wrong = []
    for example in given:
        checker = jsonschema.Draft202012Validator(
            example.schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        error = next(checker.iter_errors(example.value), None)
        if error is not None:
            wrong.append(f"{example.name}: {_located(error)}")
    return wrong


# ------------------------------------------------------------------------------------------- shared


def _process(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"it did not end within {SECONDS:g} seconds") from None
    except OSError as error:
        raise Refused(f"it cannot be started ({error.strerror})") from None


def _beside_python(name: str) -> str | None:
    found = Path(sys.executable).parent / name
    return str(found) if found.exists() else None


def _proto_roots(folder: Path, paths: Sequence[str]) -> dict[Path, list[str]]:
    """Files by the folder from which they import each other: the one above their package's folders."""
    roots: dict[Path, list[str]] = {}
    for path in paths:
        found = re.search(r"^package ([\w.]+);", (folder / path).read_text(encoding="utf-8"), re.MULTILINE)
        inner = found[1].replace(".", "/") if found else ""
        parent = (folder / path).parent
        root = folder / path
        matches = inner and parent.as_posix().endswith(f"/{inner}")
        root = parent.parents[inner.count("/")] if matches else parent
        roots.setdefault(root, []).append((folder / path).relative_to(root).as_posix())
    return roots


def _located(error: Any) -> str:
    where = ".".join(map(str, error.absolute_path))
    return _sentence(f"{where}: {error.message}" if where else error.message)


def _sentence(said: object) -> str:
    """On one line, and not longer than one reads."""
    one = " ".join(str(said).split())
    return one if len(one) <= 300 else one[:299] + "…"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _resolves(document: Any, reference: str) -> bool:
    """RFC 6901, within the document; what leads elsewhere is not looked at."""
    if not reference.startswith("#/"):
        return True
    for step in reference[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list):
            if not name.isdigit() or int(name) >= len(document):
                return False
            document = document[int(name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return False
    return True


_REFERENCE = {"type": "object", "required": ["$ref"], "properties": {"$ref": {"type": "string"}}}
_ASYNCAPI: dict[str, Any] = {
    "type": "object",
    "required": ["asyncapi", "info"],
    "properties": {
        "asyncapi": {"type": "string", "pattern": r"^3\.\d+\.\d+$"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "properties": {"title": {"type": "string"}, "version": {"type": "string"}},
        },
        "channels": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "address": {"type": ["string", "null"]},
                    "messages": {"type": "object", "additionalProperties": {"type": "object"}},
                },
            },
        },
        "operations": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["action", "channel"],
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": _REFERENCE,
                    "messages": {"type": "array", "items": _REFERENCE},
                },
            },
        },
        "components": {"type": "object"},
    },
    "patternProperties": {"^x-": {}},
    "additionalProperties": False,
}
_ASYNCAPI["properties"] |= {"id": {}, "servers": {"type": "object"}, "defaultContentType": {"type": "string"}}
