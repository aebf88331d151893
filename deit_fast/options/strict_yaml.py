"""Reads YAML strictly: a repeated key is an error, and numbers are decimal.

YAML 1.1 would read 010 as 8, 1_0 as 10 and 1:30 as 90. 1e-3 is a number, while PyYAML would read it as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from deit_fast.config import UserError
from deit_fast.options.words import shown

INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


class StrictLoader(yaml.SafeLoader):
    """yaml.SafeLoader that refuses repeated keys and reads only plain decimal numbers as numbers."""

    def __init__(self, stream: bytes | str) -> None:
        super().__init__(stream)
        self.flat: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Every mapping passes here before it is built, again for each alias; then merged keys rightly stand twice."""
        if node in self.flat:
            return
        self.flat.add(node)
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key_node.value)} stands twice: want it once", key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node)
        super().flatten_mapping(node)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float | str:
        """A decimal number, or the text where it is none."""
        text = self.construct_scalar(node)
        if INTEGER.fullmatch(text) and len(text) < 1000:  # Python refuses to convert more than 4300 digits
            return int(text)
        return float(text) if NUMBER.fullmatch(text) else text


StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{NUMBER.pattern})$"), list("-+.0123456789"))
for _kind in ("int", "float", "timestamp"):
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrictLoader.construct_decimal)


def entries(loader: StrictLoader, node: yaml.Node | None, problem: str) -> Iterator[tuple[str, yaml.Node, int]]:
    """Key, value and line of each entry of a mapping; nothing for an empty one; raises UserError(problem) otherwise."""
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        raise UserError(problem)
    loader.flatten_mapping(node)
    for key, value in node.value:
        yield str(loader.construct_scalar(key)), value, key.start_mark.line + 1
