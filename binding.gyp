# SPDX-License-Identifier: MIT
{
  "targets": [
    {
      "target_name": "lowerwatch",
      "sources": [ "<!@(node -p \"require('fs').globSync ? require('fs').globSync('native/**/*.cc').join(' ') : require('child_process').execFileSync('find',['native','-name','*.cc']).toString().trim().split('\\n').sort().join(' ')\")" ],
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
