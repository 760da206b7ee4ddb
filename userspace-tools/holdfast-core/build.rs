// SPDX-License-Identifier: GPL-2.0

//! Tells `rust/core/mod.rs` that it is a crate root here, not a module of the kernel module.

fn main() {
    println!("cargo:rustc-cfg=holdfast_host");
    println!("cargo:rerun-if-changed=build.rs");
}
