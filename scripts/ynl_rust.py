#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""ynl_rust.py SPEC module|tools: prints a YNL specification as Rust.

module: constants, and one policy table an operation, in terms of crate::net::genl::Policy.
tools:  constants, enums, and names by which an error's attribute is told.

What the specification may say is checked by the kernel's own generator (scripts/ynl-regen);
what this one cannot express is an error, never left out.
"""

import sys
import textwrap

import yaml

SCALARS = {"u8": 0xFF, "u16": 0xFFFF, "u32": 0xFFFFFFFF, "u64": 0xFFFFFFFFFFFFFFFF}
WIDTH = 96

# What the names of attributes stand in.
NESTED = """\
/// The attributes of a set, by which errors tell them.
#[derive(Debug)]
pub struct AttrSet {
    /// Number, name, and what is nested in it.
    pub attrs: &'static [(u16, &'static str, Nested<'static>)],
}

/// What an attribute holds.
#[derive(Clone, Copy, Debug)]
pub enum Nested<'a> {
    /// A value.
    None,
    /// Attributes of a set.
    Set(&'a AttrSet),
    /// An array, each entry of which has attributes of a set.
    Array(&'a AttrSet),
}""".splitlines()


def upper(name):
    return name.replace("-", "_").upper()


def camel(name):
    return "".join(part.capitalize() for part in name.split("-"))


def doc(text, indent=""):
    """The lines of a Rust doc comment."""
    text = " ".join(text.split())
    prefix = indent + "/// "
    return [prefix + line for line in textwrap.wrap(text, WIDTH - len(prefix))]


def numbered(items, start):
    """Pairs of an item and its number; an item may set its own."""
    number = start
    for item in items:
        number = item.get("value", number)
        yield item, number
        number += 1


class Spec:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.license = text.splitlines()[0].removeprefix("# SPDX-License-Identifier: ")
        data = yaml.safe_load(text)
        self.name = data["name"]
        self.version = data.get("version", 1)
        self.groups = [g["name"] for g in data.get("mcast-groups", {}).get("list", [])]
        self.enums = {}
        for d in data["definitions"]:
            if d["type"] != "enum":
                raise SystemExit(f"definition {d['name']}: {d['type']} is not supported")
            entries = [e if isinstance(e, dict) else {"name": e} for e in d["entries"]]
            self.enums[d["name"]] = dict(d, entries=list(numbered(entries, d.get("value-start", 0))))
        self.sets = {s["name"]: list(numbered(s["attributes"], 1)) for s in data["attribute-sets"]}
        self.ranges = set()
        self.ops = list(numbered(data["operations"]["list"], 1))

    def head(self):
        return [
            f"// SPDX-License-Identifier: {self.license}",
            "",
            f"//! Numbers of the generic netlink family `{self.name}`.",
            "//!",
            f"//! Made by `scripts/ynl-regen` from `Documentation/netlink/specs/{self.name}.yaml`:",
            "//! do not edit.",
            "",
        ]

    def constants(self, vis, text):
        """All constants but enum entries; text(str) is the type and value of a string."""
        out = []

        def const(about, name, typed):
            out.extend(doc(about))
            out.append(f"{vis} const {name}: {typed};")

        const("Name of the family.", "FAMILY_NAME", text(self.name))
        const("Version of the family.", "FAMILY_VERSION", f"u8 = {self.version}")
        for group in self.groups:
            const(f"Name of the multicast group `{group}`.", f"MCGRP_{upper(group)}", text(group))
        out.append("")
        for op, number in self.ops:
            const(f"`{op['name']}`: {op['doc']}", f"CMD_{upper(op['name'])}", f"u8 = {number}")
        for name, attrs in self.sets.items():
            out.append("")
            for attr, number in attrs:
                about = attr.get("doc", "")
                about = f"`{attr['name']}` of `{name}`" + (f": {about}" if about else ".")
                const(about, f"A_{upper(name)}_{upper(attr['name'])}", f"u16 = {number}")
        return out

    def policy(self, attr):
        """The check of one attribute."""
        kind, checks = attr["type"], dict(attr.get("checks", {}))
        big = attr.get("byte-order") == "big-endian"
        if big and kind != "u16":
            raise SystemExit(f"{attr['name']}: only a u16 may be big-endian")
        if kind in SCALARS:
            limit = SCALARS[kind]
            if "enum" in attr:
                checks["max"] = max(n for _, n in self.enums[attr["enum"]]["entries"])
            low, high = checks.pop("min", 0), checks.pop("max", limit)
            rule = ("be16" if big else kind) + "()"
            if (low, high) == (0, limit):
                pass
            elif max(low, 0 if high == limit else high) > 0x7FFF:
                self.ranges.add((low, high))
                rule += f".full_range(&RANGE_{low}_{high})"
            elif low == 0:
                rule += f".max({high})"
            elif high == limit:
                rule += f".min({low})"
            else:
                rule += f".range({low}, {high})"
        elif kind == "binary":
            rule = f"binary({checks.pop('max-len')})"
        elif kind == "flag":
            rule = "flag()"
        elif kind == "indexed-array" and attr["sub-type"] == "nest":
            rule = f"nested_array(&{upper(attr['nested-attributes'])}_POLICY)"
        elif kind == "nest":
            rule = f"nested(&{upper(attr['nested-attributes'])}_POLICY)"
        else:
            raise SystemExit(f"{attr['name']}: a request cannot have a {kind}")
        if checks:
            raise SystemExit(f"{attr['name']}: cannot express {', '.join(checks)}")
        return f"Policy::{rule}"

    def table(self, about, name, set_name, allowed):
        """A policy table by attribute number, no longer than need be."""
        attrs = {n: a for a, n in self.sets[set_name]} if allowed else {}
        last = max((n for n, a in attrs.items() if a["name"] in allowed), default=0)
        rows = ["Policy::reject()"]
        for number in range(1, last + 1):
            attr = attrs.get(number)
            rows.append(self.policy(attr) if attr and attr["name"] in allowed else "Policy::reject()")
        out = ["", *doc(about), f"pub(crate) static {name}: [Policy; {len(rows)}] = ["]
        out += [f"    {row}, // {attrs[n]['name']}" if n in attrs and "reject" not in row else f"    {row},"
                for n, row in enumerate(rows)]
        return out + ["];"]

    def requests(self):
        """Number, operation, do or dump, and names of the attributes of each request."""
        for op, number in self.ops:
            for way in ("do", "dump"):
                if way in op:
                    yield number, op, way, op[way].get("request", {}).get("attributes", [])

    def nests(self):
        """Attribute sets that occur inside requests, innermost first."""
        found = []

        def visit(set_name, allowed):
            for attr, _ in self.sets[set_name]:
                if "nested-attributes" in attr and (allowed is None or attr["name"] in allowed):
                    inner = attr["nested-attributes"]
                    visit(inner, None)
                    if inner not in found:
                        found.append(inner)

        for _, op, _, allowed in self.requests():
            visit(op["attribute-set"], allowed)
        return found

    def module(self):
        out = self.head()
        out += ["// A number that only userspace uses is still part of the family.", "#![allow(dead_code)]", ""]
        out += ["use crate::net::genl::{Policy, Range};", "use kernel::prelude::*;", ""]
        out += self.constants("pub(crate)", lambda s: f'&CStr = c"{s}"')
        for name, enum in self.enums.items():
            out.append("")
            for entry, number in enum["entries"]:
                out += doc(f"`{entry['name']}` of `{name}`. " + entry.get("doc", ""))
                out.append(f"pub(crate) const {upper(name)}_{upper(entry['name'])}: u32 = {number};")
        tables = []
        for name in self.nests():
            every = [a["name"] for a, _ in self.sets[name]]
            tables += self.table(f"What a nested `{name}` may hold.", f"{upper(name)}_POLICY", name, every)
        for _, op, way, allowed in self.requests():
            about = f"What the request of `{op['name']}` ({way}) may hold."
            tables += self.table(about, f"{upper(op['name'])}_{way.upper()}_POLICY", op["attribute-set"], allowed)
        out.append("")
        for low, high in sorted(self.ranges):
            out.append(f"static RANGE_{low}_{high}: Range = Range::new({low}, {high});")
        return out + tables

    def tools(self):
        out = self.head() + self.constants("pub", lambda s: f'&str = "{s}"')
        for name, enum in self.enums.items():
            entries, kind = enum["entries"], camel(name)
            out += ["", *doc(enum.get("doc", f"A {name}."))]
            out += ["#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]", "#[repr(u32)]", f"pub enum {kind} {{"]
            for entry, number in entries:
                out += doc(entry.get("doc", f"`{entry['name']}`."), "    ")
                out.append(f"    {camel(entry['name'])} = {number},")
            out += ["}", "", f"impl {kind} {{", "    /// All of them, in the order of their numbers."]
            every = ", ".join(f"Self::{camel(e['name'])}" for e, _ in entries)
            out += [f"    pub const ALL: [Self; {len(entries)}] = [{every}];", ""]
            out += ["    /// The name that tools show.", "    pub const fn name(self) -> &'static str {", "        match self {"]
            out += [f"            Self::{camel(e['name'])} => \"{e['name']}\"," for e, _ in entries]
            out += ["        }", "    }", "", "    /// The one with this number, if there is one."]
            out += ["    pub fn from_raw(raw: u32) -> Option<Self> {", "        Self::ALL.into_iter().find(|v| *v as u32 == raw)", "    }", "}"]
        out += ["", *NESTED]
        for name, attrs in self.sets.items():
            out += ["", f"/// The attributes of `{name}`.", f"pub static {upper(name)}_ATTRS: AttrSet = AttrSet {{", "    attrs: &["]
            for attr, _ in attrs:
                inner = "None"
                if "nested-attributes" in attr:
                    kind = "Array" if attr["type"] == "indexed-array" else "Set"
                    inner = f"{kind}(&{upper(attr['nested-attributes'])}_ATTRS)"
                out.append(f"        (A_{upper(name)}_{upper(attr['name'])}, \"{attr['name']}\", Nested::{inner}),")
            out += ["    ],", "};"]
        out += ["", "/// Name and attributes of the command with this number.", "pub fn command(cmd: u8) -> Option<(&'static str, &'static AttrSet)> {", "    Some(match cmd {"]
        for op, _ in self.ops:
            if "attribute-set" in op:
                out.append(f"        CMD_{upper(op['name'])} => (\"{op['name']}\", &{upper(op['attribute-set'])}_ATTRS),")
        out += ["        _ => return None,", "    })", "}"]
        return out


def main():
    spec = Spec(sys.argv[1])
    lines = {"module": spec.module, "tools": spec.tools}[sys.argv[2]]()
    print("\n".join(lines))


main()
