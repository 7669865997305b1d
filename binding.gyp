# SPDX-License-Identifier: MIT
{
  "targets": [
    {
      "target_name": "lowerwatch",
      # docs/decisions/0020: each all.cc names the files of its folder.
      "sources": [ "native/addon.cc", "native/core/all.cc", "native/probe/all.cc", "native/sys/all.cc", "native/watch/all.cc" ],
      "include_dirs": [ "<!(node -p \"require('node-addon-api').include_dir\")", "native" ],
      "defines": [ "NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_FILE_OFFSET_BITS=64" ],
      # Node's -O3 costs a third more of the compile time; what takes time here is system calls.
      "cflags!": [ "-O3" ],
      "cflags": [ "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter", "-O1" ],
      "cflags_cc!": [ "-std=gnu++17", "-fexceptions", "-frtti" ],
      "cflags_cc": [ "-std=gnu++20", "-fno-exceptions", "-fno-rtti" ],
      "ldflags": [ "-Wl,-z,relro,-z,now" ]
    }
  ]
}
