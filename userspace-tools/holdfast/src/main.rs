// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! The program `holdfast`; all of it is in the library, which the manual pages are made from, too.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::main()
}
