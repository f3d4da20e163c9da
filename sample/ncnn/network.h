// The network itself: NCNN with an exported model loaded into it.

#pragma once

#include <net.h>

#include <vector>

#include "model_file.h"

namespace yolo_fastest {

class Network {
  public:
    // Loads the .param and .bin file and runs the network once, so that what does not fit is found here.
    //
    // Throws InputError: one is missing, cut short, or is not of the model that the .json file tells of.
    Network(const ModelFile& model, int threads);

    // input: 3 channels of the model's width × height.
    // Returns the output of each scale: a channel a row of cells, in it a row a cell, in it
    // 4·A box values (anchor-major), A objectnesses and the classes' probabilities, all 0…1.
    // Throws RunError: NCNN fails.
    std::vector<ncnn::Mat> run(const ncnn::Mat& input) const;

  private:
    ncnn::Net net_;
    std::string input_;
    std::vector<std::string> outputs_;
};

}  // namespace yolo_fastest
