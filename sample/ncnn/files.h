#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "detector.h"

namespace yolo_fastest {

// Throws InputError if `valid` is false. where: the file and the place in it, or the argument.
inline void require(bool valid, const std::string& where, const std::string& expected, const std::string& got) {
    if (!valid) {
        throw InputError(where + ": expected " + expected + ", got " + got);
    }
}

// Returns all bytes of a file. Throws InputError: it is missing, a folder or unreadable.
inline std::string read_file(const std::filesystem::path& path) {
    require(!std::filesystem::is_directory(path), path.string(), "a file", "a folder");
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) {
        throw InputError(path.string() + ": cannot read: " + (errno != 0 ? std::strerror(errno) : "unknown reason"));
    }
    return content;
}

}  // namespace yolo_fastest
