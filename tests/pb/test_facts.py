# SPDX-License-Identifier: Apache-2.0
"""The shipped descriptor set says what etcd's protos say, element by element.

`tests/facts/descriptors.json` describes what etcd's own files compile to; health.json the health
service. Two things are left out on purpose: version.proto, which only declares options by which etcd
notes the release of an element, and with it all third-party options.

When this fails after a change to protos/, run `python tools/build_protos.py` (it needs grpcio-tools). When
etcd gains an element, add it to the facts first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parent.parent.parent
FACTS = [
    json.loads((ROOT / "tests" / "facts" / name).read_text(encoding="utf-8"))
    for name in ("descriptors.json", "health.json")
]
LEFT_OUT = "version.proto"

OURS = "watchcolumns.proto"  # another way to read what etcd writes
ALL_FILES = FileDescriptorSet.FromString((ROOT / "purecd" / "pb" / "etcd.binpb").read_bytes()).file
FILES = [file for file in ALL_FILES if file.name != OURS]


def facts(kind: str) -> dict[str, Any]:
    return {name: fact for part in FACTS for name, fact in part[kind].items()}


def all_messages() -> dict[str, tuple[str, DescriptorProto]]:
    found = {}

    def add(file: str, scope: str, message: DescriptorProto) -> None:
        name = f"{scope}.{message.name}"
        found[name] = (file, message)
        for nested in message.nested_type:
            add(file, name, nested)

    for file in FILES:
        for message in file.message_type:
            add(file.name, file.package, message)
    return found


def all_enums() -> dict[str, list[tuple[str, int]]]:
    scopes: list[tuple[str, Any]] = [(file.package, file) for file in FILES]
    scopes += [(name, message) for name, (_, message) in all_messages().items()]
    return {
        f"{scope}.{enum.name}": [(value.name, value.number) for value in enum.value]
        for scope, owner in scopes
        for enum in owner.enum_type
    }


def field_facts(message: DescriptorProto, field: FieldDescriptorProto) -> dict[str, Any]:
    def lower(name: str, prefix: str) -> str:
        return name[len(prefix) :].lower()

    return {
        "name": field.name,
        "number": field.number,
        "type": lower(FieldDescriptorProto.Type.Name(field.type), "TYPE_"),
        "type_name": field.type_name.lstrip(".") or None,
        "label": lower(FieldDescriptorProto.Label.Name(field.label), "LABEL_"),
        "oneof": message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
        "json_name": field.json_name,
        "proto3_optional": field.proto3_optional,
        "packed": is_packed(field),
    }


def is_packed(field: FieldDescriptorProto) -> bool:
    """proto3 packs repeated numbers unless told otherwise."""
    lengths = (field.TYPE_MESSAGE, field.TYPE_STRING, field.TYPE_BYTES)
    if field.label != field.LABEL_REPEATED or field.type in lengths:
        return False
    return field.options.packed if field.options.HasField("packed") else True


def test_counts_of_the_facts():
    counts = FACTS[0]["counts"]
    assert (counts["messages"], counts["fields"], counts["methods"]) == (117, 261, 49)
    assert len(FACTS[0]["messages"]) == 117
    assert sum(len(message["fields"]) for message in FACTS[0]["messages"].values()) == 261
    assert sum(len(service["methods"]) for service in FACTS[0]["services"].values()) == 49


def test_files():
    expected = facts("files")
    del expected[LEFT_OUT]
    assert {file.name for file in FILES} == set(expected)
    for file in FILES:
        fact = expected[file.name]
        assert (file.package, file.syntax) == (fact["package"], fact["syntax"])
        assert list(file.dependency) == [name for name in fact["dependencies"] if name != LEFT_OUT]


def test_files_stand_after_what_they_import():
    seen: set[str] = set()
    for file in ALL_FILES:
        assert seen.issuperset(file.dependency)
        seen.add(file.name)


def test_messages_and_fields():
    messages, expected = all_messages(), facts("messages")
    assert set(messages) == set(expected)
    for name, (file, message) in messages.items():
        fact = expected[name]
        assert file == fact["file"]
        assert [oneof.name for oneof in message.oneof_decl] == fact["oneofs"]
        assert [f"{name}.{nested.name}" for nested in message.nested_type] == fact["nested_messages"]
        assert [f"{name}.{enum.name}" for enum in message.enum_type] == fact["nested_enums"]
        wanted = [
            {key: field[key] for key in field if key not in ("since", "first_release")}
            for field in fact["fields"]
        ]
        assert [field_facts(message, field) for field in message.field] == wanted


def test_enums():
    expected = {
        name: [(value["name"], value["number"]) for value in fact["values"]]
        for name, fact in facts("enums").items()
    }
    assert all_enums() == expected


def test_services_and_methods():
    methods = {
        f"{file.package}.{service.name}": [
            {
                "name": method.name,
                "path": f"/{file.package}.{service.name}/{method.name}",
                "input": method.input_type.lstrip("."),
                "output": method.output_type.lstrip("."),
                "client_streaming": method.client_streaming,
                "server_streaming": method.server_streaming,
            }
            for method in service.method
        ]
        for file in FILES
        for service in file.service
    }
    expected = {
        name: [
            {key: method[key] for key in method if key not in ("since", "first_release")}
            for method in fact["methods"]
        ]
        for name, fact in facts("services").items()
    }
    assert methods == expected


def test_no_options_no_extensions_no_comments():
    for file in FILES:
        assert not file.HasField("options")
        assert not file.HasField("source_code_info")
        assert not file.extension
        assert not file.public_dependency
    for _, message in all_messages().values():
        assert not message.HasField("options")
        assert not message.extension
        assert not any(field.HasField("options") for field in message.field)
