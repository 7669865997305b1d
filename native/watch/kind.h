// SPDX-License-Identifier: MIT
// Bits of Change.kind; the same numbers as `Kind` in src/native.ts.
#pragma once

#include <cstdint>

namespace lowerwatch::kind {

inline constexpr uint32_t create = 0x01;
inline constexpr uint32_t remove = 0x02;
inline constexpr uint32_t movedFrom = 0x04;
inline constexpr uint32_t movedTo = 0x08;
inline constexpr uint32_t attributes = 0x10;
inline constexpr uint32_t modify = 0x20;
inline constexpr uint32_t directory = 0x40;
inline constexpr uint32_t directoryDirty = 0x100;
inline constexpr uint32_t layerDirty = 0x200;
inline constexpr uint32_t overflow = 0x400;
inline constexpr uint32_t layerGone = 0x800;

}  // namespace lowerwatch::kind
