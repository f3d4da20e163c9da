#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "detector.h"

namespace yolo_fastest {

// Returns all bytes of a file. Throws InputError: it is missing, a folder or unreadable.
inline std::string read_file(const std::filesystem::path& path) {
    if (std::filesystem::is_directory(path)) {
        throw InputError(path.string() + ": expected a file, got a folder");
    }
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) {
        throw InputError(path.string() + ": cannot read: " + (errno != 0 ? std::strerror(errno) : "unknown reason"));
    }
    return content;
}

}  // namespace yolo_fastest
