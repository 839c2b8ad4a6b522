// One more token for each of several texts: the forward pass of minimind/model.py for a CPU, over a KV cache.
//
// Producing a token reads every weight once, so it should take about as long as that. In PyTorch the 80 small operations
// of a layer take longer than its matrix products, and those use one core. Here a step is one call: rows share the
// weights they read, the threads meet five times in a layer, and weights may be fp32, bfloat16 or int8.
//
// What a row gets does not depend on the other rows, to the last bit: every sum runs over its inputs in one order,
// eight lanes wide, however many rows are computed. (So no -ffast-math.)
//
// Plain C with GCC's vector extensions, which clang has too. native.py compiles and calls it; its structures mirror ours.

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int8_t v8b __attribute__((vector_size(8)));
typedef int16_t v8s __attribute__((vector_size(16)));
typedef uint16_t v8h __attribute__((vector_size(16)));
typedef uint32_t v8u __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))
enum { LANES = 8, BLOCK = 8, TILE = 2, TILE_ROWS = 6, CHUNK = 4, LINE = 64, AHEAD = 16384 };
enum { FLOAT32, BFLOAT16, INT8 };

typedef struct {
    const void *weight;  // [outputs, inputs], row by row
    const float *scale;  // [outputs] for int8, else null
    int64_t type, outputs, inputs;
} Matrix;

typedef struct {
    Matrix q, k, v, o, gate, up, down;
    const float *input_norm, *q_norm, *k_norm, *post_norm;
    float *keys, *values;  // [slots, kv_heads, context, head_dim]
} Layer;

typedef struct {
    int64_t layers, hidden, heads, kv_heads, head_dim, intermediate, context;
    double eps;
    const float *embedding, *final_norm;  // embedding: [vocabulary, hidden]
    const float *cos, *sin;               // [context, head_dim]
    Matrix head;
    const Layer *layer;
} Model;

INLINE v8 load(const float *from) {
    v8 value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, v8 value) { memcpy(to, &value, sizeof value); }

INLINE float sum(v8 a) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

// exp, to 2e-7 of its value; 0 below -87 and for ever the same above 88.
INLINE v8 exp8(v8 x) {
    v8i large = x > 88.0f;
    x = (v8)((large & (v8i)((v8){0} + 88.0f)) | (~large & (v8i)x));
    v8 shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer, which stands in the low bits
    v8 whole = shifted - 12582912.0f;
    v8 r = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
    v8 p = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666672e-1f + r * (4.16664022e-2f + r * (8.33345205e-3f + r * 1.39304355e-3f)))));
    v8i bits = ((v8i)shifted << 23) + (v8i)p;
    return (v8)(bits & (v8i)(x > -87.0f));
}

// Eight weights from number `at` on.
INLINE v8 weights(int type, const void *from, int64_t at) {
    if (type == FLOAT32) return load((const float *)from + at);
    if (type == BFLOAT16) {
        v8h half;
        memcpy(&half, (const uint16_t *)from + at, sizeof half);
#ifdef __AVX2__  // what GCC makes of a conversion takes three times as long
        return (v8)((v8u)_mm256_cvtepu16_epi32((__m128i)half) << 16);
#else
        return (v8)(__builtin_convertvector(half, v8u) << 16);
#endif
    }
#ifdef __AVX2__
    return (v8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)((const int8_t *)from + at))));
#else
    v8b byte;
    memcpy(&byte, (const int8_t *)from + at, sizeof byte);
    return __builtin_convertvector(__builtin_convertvector(byte, v8s), v8);
#endif
}

// `outs` outputs from number `first` on, for `rows` rows of x. The type and both counts are constants where this is
// called, so that the sums stay in registers. fetch: ask for the weights that come AHEAD; processors foresee a long
// stream of bytes but not several short ones beside each other, and int8 took three times as long without.
INLINE void tile(int type, int outs, int rows, int fetch, const Matrix *m, int64_t first, const float *x, float *y, int64_t y_stride) {
    int64_t size = type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1;
    const char *ahead = (const char *)m->weight + first * m->inputs * size + AHEAD;
    v8 sums[BLOCK][TILE_ROWS];
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) sums[o][r] = (v8){0};
    for (int64_t i = 0; i < m->inputs; i += LANES) {
        if (fetch)
            for (int64_t at = 0; at < outs * LANES * size; at += LINE) __builtin_prefetch(ahead + i * outs * size + at);
        v8 in[TILE_ROWS];
        for (int r = 0; r < rows; r++) in[r] = load(x + r * m->inputs + i);
        for (int o = 0; o < outs; o++) {
            v8 w = weights(type, m->weight, (first + o) * m->inputs + i);
            for (int r = 0; r < rows; r++) sums[o][r] += w * in[r];
        }
    }
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) y[r * y_stride + o] = sum(sums[o][r]) * (type == INT8 ? m->scale[first + o] : 1.0f);
}

INLINE void tiles(int type, int outs, const Matrix *m, int64_t first, const float *x, int64_t rows, float *y, int64_t y_stride) {
    if (rows >= TILE_ROWS) {
        tile(type, outs, TILE_ROWS, 1, m, first, x, y, y_stride);
        for (int64_t r = TILE_ROWS; r + TILE_ROWS <= rows; r += TILE_ROWS)
            tile(type, outs, TILE_ROWS, 0, m, first, x + r * m->inputs, y + r * y_stride, y_stride);
    }
    int64_t done = rows / TILE_ROWS * TILE_ROWS;
    x += done * m->inputs, y += done * y_stride;
    switch (rows - done) {  // a constant for each
        case 1: tile(type, outs, 1, 1, m, first, x, y, y_stride); break;
        case 2: tile(type, outs, 2, 1, m, first, x, y, y_stride); break;
        case 3: tile(type, outs, 3, 1, m, first, x, y, y_stride); break;
        case 4: tile(type, outs, 4, 1, m, first, x, y, y_stride); break;
        case 5: tile(type, outs, 5, 1, m, first, x, y, y_stride); break;
    }
}

INLINE void block_of(int type, const Matrix *m, int64_t first, const float *x, int64_t rows, float *y, int64_t y_stride) {
    int64_t last = first + BLOCK < m->outputs ? first + BLOCK : m->outputs;
    if (rows == 1 && last - first == BLOCK) {
        tile(type, BLOCK, 1, 1, m, first, x, y, y_stride);
        return;
    }
    for (; last - first >= TILE; first += TILE, y += TILE) tiles(type, TILE, m, first, x, rows, y, y_stride);
    for (; first < last; first++, y++) tiles(type, 1, m, first, x, rows, y, y_stride);
}

// Up to BLOCK outputs from `first` on: y[row * y_stride + output - first].
static void block(const Matrix *m, int64_t first, const float *x, int64_t rows, float *y, int64_t y_stride) {
    if (m->type == FLOAT32) block_of(FLOAT32, m, first, x, rows, y, y_stride);
    else if (m->type == BFLOAT16) block_of(BFLOAT16, m, first, x, rows, y, y_stride);
    else block_of(INT8, m, first, x, rows, y, y_stride);
}

// y = x @ weight.T, shared by the threads that call it. They do not wait for each other.
static void product(const Matrix *m, const float *x, int64_t rows, float *y) {
#pragma omp for schedule(dynamic, CHUNK) nowait
    for (int64_t first = 0; first < m->outputs; first += BLOCK) block(m, first, x, rows, y + first, m->outputs);
}

// x += in @ weight.T. Afterwards all of it is there.
static void add_product(const Matrix *m, const float *in, int64_t rows, float *x) {
#pragma omp for schedule(dynamic, CHUNK)
    for (int64_t first = 0; first < m->outputs; first += BLOCK) {
        int64_t outs = first + BLOCK < m->outputs ? BLOCK : m->outputs - first;
        float part[rows * BLOCK];
        block(m, first, in, rows, part, BLOCK);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < outs; o++) x[r * m->outputs + first + o] += part[r * BLOCK + o];
    }
}

// y = silu(x @ gate.T) * (x @ up.T). Afterwards all of it is there.
static void gated_product(const Matrix *gate, const Matrix *up, const float *x, int64_t rows, float *y) {
#pragma omp for schedule(dynamic, CHUNK)
    for (int64_t first = 0; first < gate->outputs; first += BLOCK) {
        float gates[rows * BLOCK], ups[rows * BLOCK];
        block(gate, first, x, rows, gates, BLOCK);
        block(up, first, x, rows, ups, BLOCK);
        for (int64_t r = 0; r < rows; r++) {
            v8 g = load(gates + r * BLOCK);
            store(y + r * gate->outputs + first, g / (1.0f + exp8(-g)) * load(ups + r * BLOCK));
        }
    }
}

static void norm(const float *x, const float *weight, int64_t width, double eps, float *y) {
    v8 squares = {0};
    for (int64_t i = 0; i < width; i += LANES) squares += load(x + i) * load(x + i);
    float inverse = 1.0f / sqrtf(sum(squares) / (float)width + (float)eps);
    for (int64_t i = 0; i < width; i += LANES) store(y + i, load(x + i) * inverse * load(weight + i));
}

// The norm of one head, turned to its position. x and y may be the same.
static void turned(const float *x, const float *weight, int64_t width, double eps, const float *cos, const float *sin, float *y) {
    float normed[width];
    norm(x, weight, width, eps, normed);
    for (int64_t i = 0, half = width / 2; i < half; i++) {
        float a = normed[i], b = normed[i + half];
        y[i] = a * cos[i] - b * sin[i];
        y[i + half] = b * cos[i] + a * sin[i];
    }
}

// `vectors` times eight numbers of the mean of values, weighted by scores.
INLINE void mix(int vectors, const float *values, int64_t width, const float *scores, int64_t length, float inverse, float *out) {
    v8 mixed[4];
    for (int i = 0; i < vectors; i++) mixed[i] = (v8){0};
    for (int64_t s = 0; s <= length; s++)
        for (int i = 0; i < vectors; i++) mixed[i] += scores[s] * load(values + s * width + i * LANES);
    for (int i = 0; i < vectors; i++) store(out + i * LANES, mixed[i] * inverse);
}

// Keeps the new key and value of one key/value head, and attends with the query heads that share it.
static void attend(const Model *m, const Layer *l, int64_t head, int64_t slot, int64_t length, float *q, const float *k, const float *v, float *scores, float *out) {
    int64_t width = m->head_dim, group = m->heads / m->kv_heads;
    const float *cos = m->cos + length * width, *sin = m->sin + length * width;
    float *keys = l->keys + (slot * m->kv_heads + head) * m->context * width;
    float *values = l->values + (slot * m->kv_heads + head) * m->context * width;
    turned(k, l->k_norm, width, m->eps, cos, sin, keys + length * width);
    memcpy(values + length * width, v, (size_t)width * sizeof *v);
    float factor = 1.0f / sqrtf((float)width);
    int64_t padded = (length + LANES) / LANES * LANES;  // length + 1, rounded up
    for (int64_t g = 0; g < group; g++) {
        float *query = q + g * width;
        turned(query, l->q_norm, width, m->eps, cos, sin, query);
        float largest = -INFINITY;
        for (int64_t s = 0; s <= length; s++) {
            v8 dot = {0};
            for (int64_t i = 0; i < width; i += LANES) dot += load(query + i) * load(keys + s * width + i);
            scores[s] = sum(dot) * factor;
            if (scores[s] > largest) largest = scores[s];
        }
        for (int64_t s = length + 1; s < padded; s++) scores[s] = -INFINITY;
        v8 total = {0};
        for (int64_t s = 0; s < padded; s += LANES) {
            v8 e = exp8(load(scores + s) - largest);
            store(scores + s, e);
            total += e;
        }
        float inverse = 1.0f / sum(total);
        int64_t i = 0;
        for (; i + 4 * LANES <= width; i += 4 * LANES) mix(4, values + i, width, scores, length, inverse, out + g * width + i);
        for (; i < width; i += LANES) mix(1, values + i, width, scores, length, inverse, out + g * width + i);
    }
}

// How much room `decode` needs for what it computes on the way.
int64_t scratch_floats(const Model *m, int64_t rows, int64_t threads) {
    int64_t shared = m->hidden + (2 * m->heads + 2 * m->kv_heads) * m->head_dim + m->intermediate;
    return rows * shared + threads * (rows * m->hidden + m->context + LANES);
}

// tokens[row] goes to place lengths[row] of slots[row]; logits: [rows, vocabulary], what comes after it.
void decode(const Model *m, int64_t rows, const int64_t *tokens, const int64_t *slots, const int64_t *lengths, int64_t threads, float *scratch, float *logits) {
    int64_t hidden = m->hidden, width = m->head_dim, group = m->heads / m->kv_heads;
    float *x = scratch;
    float *q = x + rows * hidden;
    float *mixed = q + rows * m->heads * width;
    float *k = mixed + rows * m->heads * width;
    float *v = k + rows * m->kv_heads * width;
    float *wide = v + rows * m->kv_heads * width;
    float *private = wide + rows * m->intermediate;
    for (int64_t r = 0; r < rows; r++) memcpy(x + r * hidden, m->embedding + tokens[r] * hidden, (size_t)hidden * sizeof *x);
#pragma omp parallel num_threads(threads)
    {
        // Norms are cheap enough for every thread to compute all of them: it saves two meetings.
        float *normed = private + omp_get_thread_num() * (rows * hidden + m->context + LANES);
        float *scores = normed + rows * hidden;
        for (int64_t i = 0; i < m->layers; i++) {
            const Layer *l = m->layer + i;
            for (int64_t r = 0; r < rows; r++) norm(x + r * hidden, l->input_norm, hidden, m->eps, normed + r * hidden);
            product(&l->q, normed, rows, q);
            product(&l->k, normed, rows, k);
            product(&l->v, normed, rows, v);
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
            for (int64_t at = 0; at < rows * m->kv_heads; at++) {
                int64_t r = at / m->kv_heads, head = at % m->kv_heads;
                int64_t queries = (r * m->heads + head * group) * width;
                attend(m, l, head, slots[r], lengths[r], q + queries, k + at * width, v + at * width, scores, mixed + queries);
            }
            add_product(&l->o, mixed, rows, x);
            for (int64_t r = 0; r < rows; r++) norm(x + r * hidden, l->post_norm, hidden, m->eps, normed + r * hidden);
            gated_product(&l->gate, &l->up, normed, rows, wide);
            add_product(&l->down, wide, rows, x);
        }
        for (int64_t r = 0; r < rows; r++) norm(x + r * hidden, m->final_norm, hidden, m->eps, normed + r * hidden);
        product(&m->head, normed, rows, logits);
    }
}
