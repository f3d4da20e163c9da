#include "decode.h"

static const int kStrides[YF_SCALES] = {16, 32};

/* Converts an int8 output to a probability. */
static float probability(int8_t value) { return (float)(value + 128) / 256.0f; }

static int index_of_largest(const int8_t* values, int count) {
    int best = 0;
    for (int i = 1; i < count; ++i) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}

/* Inserts a detection into a list in descending order of scores, and drops the last one if the list is full.
   Returns the new count. */
static int insert(yf_detection* found, int count, int capacity, yf_detection detection) {
    if (count == capacity) {
        if (capacity == 0 || !(detection.score > found[count - 1].score)) {
            return count;
        }
        --count;
    }
    int place = count;
    for (; place > 0 && detection.score > found[place - 1].score; --place) {
        found[place] = found[place - 1];
    }
    found[place] = detection;
    return count + 1;
}

/* Appends the detections of one cell. Returns the new count. */
static int decode_cell(const yf_model_info* model, const int8_t* values, int scale, int row, int column, float conf,
                       yf_detection* found, int count, int capacity) {
    const int anchor_num = model->anchor_num;
    const int8_t* objectness = values + 4 * anchor_num;
    /* A class probability is below 1, so most cells are rejected by their objectness. */
    if (!(probability(objectness[index_of_largest(objectness, anchor_num)]) > conf)) {
        return count;
    }
    const int8_t* classes = objectness + anchor_num;
    const int class_id = index_of_largest(classes, model->classes);
    for (int i = 0; i < anchor_num; ++i) {
        const float score = probability(objectness[i]) * probability(classes[class_id]);
        if (!(score > conf)) {
            continue;
        }
        const int8_t* box = values + 4 * i;
        const float* anchor = model->anchors + 2 * (scale * anchor_num + i);
        const float stride = (float)kStrides[scale];
        const float x = (2 * probability(box[0]) - 0.5f + (float)column) * stride;
        const float y = (2 * probability(box[1]) - 0.5f + (float)row) * stride;
        const float half_width = 2 * probability(box[2]) * probability(box[2]) * anchor[0];
        const float half_height = 2 * probability(box[3]) * probability(box[3]) * anchor[1];
        const yf_detection detection = {x - half_width,  y - half_height, x + half_width,
                                        y + half_height, score,           class_id};
        count = insert(found, count, capacity, detection);
    }
    return count;
}

static float area(const yf_detection* box) { return (box->x2 - box->x1) * (box->y2 - box->y1); }

static float overlap(const yf_detection* a, const yf_detection* b) {
    const float width = (a->x2 < b->x2 ? a->x2 : b->x2) - (a->x1 > b->x1 ? a->x1 : b->x1);
    const float height = (a->y2 < b->y2 ? a->y2 : b->y2) - (a->y1 > b->y1 ? a->y1 : b->y1);
    if (width <= 0 || height <= 0) {
        return 0;
    }
    const float intersection = width * height;
    return intersection / (area(a) + area(b) - intersection);
}

/* Drops boxes that overlap a better box of the same class. Returns the new count. */
static int suppress(yf_detection* found, int count, float iou) {
    int kept = 0;
    for (int i = 0; i < count; ++i) {
        int best = 1;
        for (int j = 0; j < kept && best; ++j) {
            best = found[j].class_id != found[i].class_id || !(overlap(&found[j], &found[i]) > iou);
        }
        if (best) {
            found[kept++] = found[i];
        }
    }
    return kept;
}

int yf_decode(const yf_model_info* model, const int8_t* stride16, const int8_t* stride32, float conf, float iou,
              yf_detection* found, int capacity) {
    const int8_t* const outputs[YF_SCALES] = {stride16, stride32};
    const int values = 5 * model->anchor_num + model->classes;
    int count = 0;
    for (int scale = 0; scale < YF_SCALES; ++scale) {
        const int rows = model->height / kStrides[scale], columns = model->width / kStrides[scale];
        for (int row = 0; row < rows; ++row) {
            for (int column = 0; column < columns; ++column) {
                const int8_t* cell = outputs[scale] + (row * columns + column) * values;
                count = decode_cell(model, cell, scale, row, column, conf, found, count, capacity);
            }
        }
    }
    return suppress(found, count, iou);
}
