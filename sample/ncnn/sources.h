// What there is to detect in.

#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace yolo_fastest {

struct Picture {
    std::filesystem::path path;
    std::filesystem::path name;  // below the folder that was asked for; what its result is called
};

// The camera's number if `what` is one and no file is called so.
std::optional<int> camera_number(const std::string& what);

// The picture of this name; or the pictures of the folder of this name and of those in it, sorted. Hidden ones and
// those in the folder `without` are left out.
//
// Throws InputError: nothing is there, or no picture in the folder.
std::vector<Picture> list_pictures(const std::string& what, const std::filesystem::path& without);

}  // namespace yolo_fastest
