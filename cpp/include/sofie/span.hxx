// Views of tensors, which custom operators are written with.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#include "core/span.hxx"
