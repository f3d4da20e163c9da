# Cross-compile for 64-bit ARM Linux (Raspberry Pi OS, Debian, Ubuntu): cmake -DCMAKE_TOOLCHAIN_FILE=THIS_FILE …
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
