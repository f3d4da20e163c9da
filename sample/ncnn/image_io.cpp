#include "image_io.h"

#include <algorithm>
#include <cctype>
#include <random>

#include "files.h"
#include "image_codec.h"

namespace yolo_fastest {

namespace fs = std::filesystem;

namespace {

std::string lower_suffix(const fs::path& path) {
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
    return suffix;
}

// Whether a JPEG file lacks its end: decoders fill what is missing with grey instead of failing.
bool is_cut_short(const std::string& bytes) {
    if (bytes.compare(0, 2, "\xff\xd8") != 0) {
        return false;
    }
    // A thumbnail in the header has an end mark of its own, so the mark must come after the last scan began.
    const std::size_t scan = bytes.rfind("\xff\xda"), end = bytes.rfind("\xff\xd9");
    return end == std::string::npos || (scan != std::string::npos && end < scan);
}

}  // namespace

bool is_image_name(const fs::path& path) {
    const std::vector<std::string>& suffixes = codec::suffixes();
    return std::find(suffixes.begin(), suffixes.end(), lower_suffix(path)) != suffixes.end();
}

std::string image_suffixes() {
    std::string text;
    for (const std::string& suffix : codec::suffixes()) {
        text += (text.empty() ? "" : " ") + suffix;
    }
    return text;
}

Image read_image(const fs::path& path) {
    const std::string bytes = read_file(path);
    if (bytes.empty() || is_cut_short(bytes)) {
        throw InputError(path.string() + ": expected a picture, got " +
                         (bytes.empty() ? "an empty file" : "a JPEG file that is cut short"));
    }
    std::optional<Image> image = codec::decode({bytes.begin(), bytes.end()});
    if (!image) {
        throw InputError(path.string() + ": expected a picture (" + image_suffixes() + "), cannot decode this file");
    }
    return *std::move(image);
}

fs::path write_image(const fs::path& path, const Image& image) {
    fs::path target = path;
    if (!is_image_name(path)) {
        target += ".png";
    }
    const fs::path temporary =
        target.parent_path() / ("." + std::to_string(std::random_device{}()) + lower_suffix(target));
    std::string problem;
    try {
        fs::create_directories(target.parent_path());
        codec::encode(temporary, image);
        fs::rename(temporary, target);
        return target;
    } catch (const fs::filesystem_error& error) {
        problem = error.code().message();
    } catch (const RunError& error) {
        problem = error.what();
    }
    std::error_code ignored;  // most often nothing was written
    fs::remove(temporary, ignored);
    throw RunError(target.string() + ": cannot write: " + problem);
}

}  // namespace yolo_fastest
