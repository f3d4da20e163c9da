/* Converts the int8 outputs of the network to detections, in C99 without allocation and without dependencies.

   A program needs this header, decode.c, and the files that tools/tflite_to_c.py writes:

       static yf_detection found[20];
       int count = yf_decode(&yf_model, stride16, stride32, yf_model.conf, yf_model.iou, found, 20);
*/

#ifndef YF_DECODE_H
#define YF_DECODE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { YF_SCALES = 2 };

typedef struct {
    int width, height;        /* input size in pixels, multiples of 32 */
    int classes;              /* number of classes */
    int anchor_num;           /* anchors per scale */
    const float* anchors;     /* [YF_SCALES][anchor_num][2] widths and heights in input pixels, stride 16 first */
    const char* const* names; /* [classes] class names in UTF-8 */
    float conf, iou;          /* default thresholds */
} yf_model_info;

typedef struct {
    float x1, y1, x2, y2; /* corners in input pixels; may lie outside the image */
    float score;          /* 0 to 1 */
    int class_id;
} yf_detection;

/* Decodes the outputs of one image and drops boxes that overlap a better box of the same class.

   stride16, stride32: the outputs [height / stride][width / stride][4 * A + A + C] of A anchors and C classes, int8
   with scale 1/256 and zero point -128. The one for stride 16 is four times as large as the other.

   conf: keep detections that score above this, 0 to 1.

   iou: drop boxes that overlap a better box of the same class by more than this, 0 to 1.

   found: array of `capacity` detections to write. If more score above `conf`, only the best ones are kept, before
   overlapping ones are dropped; so `capacity` should be several times the number of objects in an image.

   Returns the count of detections, best first. */
int yf_decode(const yf_model_info* model, const int8_t* stride16, const int8_t* stride32, float conf, float iou,
              yf_detection* found, int capacity);

#ifdef __cplusplus
}
#endif

#endif
