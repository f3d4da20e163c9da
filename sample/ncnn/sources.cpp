#include "sources.h"

#include <algorithm>

#include "image_io.h"

namespace yolo_fastest {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostDigits = 4;  // of a camera's number

void walk(const fs::path& folder, const fs::path& root, const fs::path& without, std::vector<Picture>& found) {
    std::vector<fs::path> entries{fs::directory_iterator(folder), fs::directory_iterator()};
    std::sort(entries.begin(), entries.end());
    for (const fs::path& entry : entries) {
        std::error_code ignored;  // a link to nowhere is neither folder nor file
        if (entry.filename().string()[0] == '.' || fs::equivalent(entry, without, ignored)) {
            continue;
        }
        if (fs::is_directory(entry, ignored)) {
            // A linked folder may lead back to where it is.
            if (!fs::is_symlink(entry, ignored)) {
                walk(entry, root, without, found);
            }
        } else if (is_image_name(entry)) {
            found.push_back({entry, entry.lexically_relative(root)});
        }
    }
}

}  // namespace

std::optional<int> camera_number(const std::string& what) {
    const bool digits = !what.empty() && what.size() <= kMostDigits &&
                        std::all_of(what.begin(), what.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || fs::exists(what)) {
        return std::nullopt;
    }
    return std::stoi(what);
}

std::vector<Picture> list_pictures(const std::string& what, const fs::path& without) {
    const fs::path path = what;
    if (!fs::exists(path)) {
        throw InputError(what + ": expected a picture, a folder or the number of a camera, found nothing there");
    }
    if (!fs::is_directory(path)) {
        return {{path, path.filename()}};
    }
    std::vector<Picture> found;
    try {
        walk(path, path, without, found);
    } catch (const fs::filesystem_error& error) {
        throw InputError(error.path1().string() + ": cannot read: " + error.code().message());
    }
    if (found.empty()) {
        throw InputError(what + ": expected pictures (" + image_suffixes() + ") in this folder, found none");
    }
    return found;
}

}  // namespace yolo_fastest
