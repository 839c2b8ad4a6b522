// More tokens for each of several texts: the forward pass of minimind/network/model.py for a CPU, over a KV cache.
//
// Producing a token reads every weight once, so it should take about as long as that. In PyTorch the 80 small
// operations of a layer take longer than its matrix products, and those use one core. Here a step is one call: rows
// share the weights they read, the threads meet five times in a layer, and weights may be fp32, bfloat16 or int8.
//
// What a token gets depends on the text before it and on nothing else, to the last bit: every sum runs over its inputs
// in one order, eight lanes wide, however many rows are computed. (So no -ffast-math, and no products contracted with
// sums where the compiler thinks fit: -ffp-contract=off.)
//
// Plain C with GCC's vector extensions, which clang has too. compiled.py compiles it, and its structures mirror ours;
// native.py calls it.

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int8_t v8b __attribute__((vector_size(8)));
typedef int16_t v8s __attribute__((vector_size(16)));
typedef uint16_t v8h __attribute__((vector_size(16)));
typedef uint32_t v8u __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))
enum { LANES = 8, BLOCK = 8, CHUNK = 4 };              // numbers in a vector, outputs in a block, blocks at a time
enum { MOST_ROWS = 6, NEAR_ROWS = 3, FEW_ROWS = 24 };  // of a product: see `strip` and `block`
enum { LINE = 64, AHEAD = 16384, NEAR = 65536 };       // bytes of a cache line, bytes, numbers: see `tile` and `block`
enum { SOME_KEYS = 64 };                               // at a time: see `attend`
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
    int64_t slot, place, rows;  // the next `rows` rows continue the text in the slot, from this place on
} Piece;

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

INLINE v8 multiply_add(v8 a, v8 b, v8 c) {
#ifdef __FMA__
    return (v8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// GCC would rather load a number again for each product, and loads are what a product of many rows waits for.
#ifdef __AVX__
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define IN_REGISTER(v) ((void)0)
#endif

INLINE float sum(v8 a) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

INLINE v4 folded(v8 a) { return (v4){a[0], a[1], a[2], a[3]} + (v4){a[4], a[5], a[6], a[7]}; }

// Four sums, each in the same order.
INLINE v4 sums(v8 a, v8 b, v8 c, v8 d) {
    v4 p = folded(a), q = folded(b), r = folded(c), s = folded(d);
    v4 t = (v4){p[0], p[1], q[0], q[1]} + (v4){p[2], p[3], q[2], q[3]};
    v4 u = (v4){r[0], r[1], s[0], s[1]} + (v4){r[2], r[3], s[2], s[3]};
    return (v4){t[0], t[2], u[0], u[2]} + (v4){t[1], t[3], u[1], u[3]};
}

// exp, to 2e-7 of its value; 0 below -87 and for ever the same above 88.
INLINE v8 exp8(v8 x) {
    v8i large = x > 88.0f;
    x = (v8)((large & (v8i)((v8){0} + 88.0f)) | (~large & (v8i)x));
    v8 shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer, which stands in the low bits
    v8 whole = shifted - 12582912.0f;
    v8 r = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
    static const float factors[] = {8.33345205e-3f, 4.16664022e-2f, 1.66666672e-1f, 0.5f, 1.0f, 1.0f};
    v8 p = (v8){0} + 1.39304355e-3f;
    for (int i = 0; i < 6; i++) p = multiply_add(p, r, (v8){0} + factors[i]);
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

INLINE int64_t bytes(int64_t type) { return type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1; }

// y[row * y_stride + output] for `outs` outputs of `rows` rows of x, from their weights `w` on. type, outs, rows and
// near are constants where this is called, so that the sums stay in registers. Unless the weights are near, in the
// cache, it asks for those that come AHEAD: processors foresee a long stream of bytes but not several short ones beside
// each other, and int8 took three times as long without.
INLINE void tile(int type, int outs, int rows, int near, const char *w, int64_t inputs, const float *x, float *y,
                 int64_t y_stride) {
    v8 sums[BLOCK][MOST_ROWS];
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) sums[o][r] = (v8){0};
    for (int64_t i = 0; i < inputs; i += LANES) {
        int64_t size = outs * LANES * bytes(type);
        if (!near)
            for (int64_t at = 0; at < size; at += LINE) __builtin_prefetch(w + AHEAD + i / LANES * size + at);
        v8 in[MOST_ROWS];
        for (int r = 0; r < rows; r++) {
            in[r] = load(x + r * inputs + i);
            if (near) IN_REGISTER(in[r]);
        }
        for (int o = 0; o < outs; o++) {
            v8 weight = weights(type, w, o * inputs + i);
            if (near) IN_REGISTER(weight);
            for (int r = 0; r < rows; r++) sums[o][r] = multiply_add(weight, in[r], sums[o][r]);
        }
    }
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) y[r * y_stride + o] = sum(sums[o][r]);
}

// A function for each type and number of rows, `step` of any number of outputs at a time. (Inlined into one function,
// they would fight for registers.)
typedef void Strip(const char *w, int64_t outs, int64_t inputs, const float *x, float *y, int64_t y_stride);
#define STRIP(name, type, rows, step, near) \
    static void name(const char *w, int64_t outs, int64_t inputs, const float *x, float *y, int64_t y_stride) { \
        int64_t o = 0, stride = inputs * bytes(type); \
        for (; o + step <= outs; o += step) tile(type, step, rows, near, w + o * stride, inputs, x, y + o, y_stride); \
        for (; o < outs; o++) tile(type, 1, rows, near, w + o * stride, inputs, x, y + o, y_stride); \
    }
#define STRIPS(type) \
    STRIP(type##_1, type, 1, 8, 0) STRIP(type##_2, type, 2, 4, 0) STRIP(type##_3, type, 3, 4, 0) \
    STRIP(type##_4, type, 4, 2, 0) STRIP(type##_5, type, 5, 2, 0) STRIP(type##_6, type, 6, 2, 0) \
    static Strip *const type##_strips[] = {type##_1, type##_2, type##_3, type##_4, type##_5, type##_6};
STRIPS(FLOAT32)
STRIPS(BFLOAT16)
STRIPS(INT8)
STRIP(near_1, FLOAT32, 1, 8, 1)
STRIP(near_2, FLOAT32, 2, 4, 1)
STRIP(near_3, FLOAT32, 3, 4, 1)
static Strip *const near_strips[] = {near_1, near_2, near_3};

// The product of `outs` outputs, `most` rows at a time.
static void strip(Strip *const *strips, int64_t most, const char *w, int64_t outs, int64_t inputs, const float *x,
                  int64_t rows, float *y, int64_t y_stride) {
    for (; rows > most; rows -= most, x += most * inputs, y += most * y_stride)
        strips[most - 1](w, outs, inputs, x, y, y_stride);
    strips[rows - 1](w, outs, inputs, x, y, y_stride);
}

// Up to BLOCK outputs from `first` on: y[row * y_stride + output - first]. Many rows wait for their own numbers and not
// for the weights, which are then put near, in fp32, where that takes no more than NEAR numbers of the stack.
static void block(const Matrix *m, int64_t first, const float *x, int64_t rows, float *y, int64_t y_stride) {
    int64_t outs = first + BLOCK < m->outputs ? BLOCK : m->outputs - first, numbers = outs * m->inputs;
    const char *w = (const char *)m->weight + first * m->inputs * bytes(m->type);
    if (rows <= FEW_ROWS || numbers > NEAR) {
        static Strip *const *const strips[] = {FLOAT32_strips, BFLOAT16_strips, INT8_strips};  // by type
        strip(strips[m->type], MOST_ROWS, w, outs, m->inputs, x, rows, y, y_stride);
    } else {
        float near[m->type == FLOAT32 ? 1 : numbers];
        for (int64_t at = 0; at < numbers * bytes(m->type); at += LINE) __builtin_prefetch(w + AHEAD + at, 0, 2);
        if (m->type == BFLOAT16)
            for (int64_t i = 0; i < numbers; i += LANES) store(near + i, weights(BFLOAT16, w, i));
        if (m->type == INT8)
            for (int64_t i = 0; i < numbers; i += LANES) store(near + i, weights(INT8, w, i));
        const char *weights_in_fp32 = m->type == FLOAT32 ? w : (const char *)near;
        strip(near_strips, NEAR_ROWS, weights_in_fp32, outs, m->inputs, x, rows, y, y_stride);
    }
    if (m->scale)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < outs; o++) y[r * y_stride + o] *= m->scale[first + o];
}

// y = x @ weight.T, shared by the threads that call it. They do not wait for each other.
static void product(const Matrix *m, const float *x, int64_t rows, float *y) {
#pragma omp for schedule(dynamic, CHUNK) nowait
    for (int64_t first = 0; first < m->outputs; first += BLOCK) block(m, first, x, rows, y + first, m->outputs);
}

// x += in @ weight.T. Afterwards all of it is there. part: room for [rows, BLOCK], of this thread.
static void add_product(const Matrix *m, const float *in, int64_t rows, float *part, float *x) {
#pragma omp for schedule(dynamic, CHUNK)
    for (int64_t first = 0; first < m->outputs; first += BLOCK) {
        int64_t outs = first + BLOCK < m->outputs ? BLOCK : m->outputs - first;
        block(m, first, in, rows, part, BLOCK);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < outs; o++) x[r * m->outputs + first + o] += part[r * BLOCK + o];
    }
}

// y = silu(x @ gate.T) * (x @ up.T). Afterwards all of it is there. part: room for twice [rows, BLOCK], of this thread.
static void gated_product(const Matrix *gate, const Matrix *up, const float *x, int64_t rows, float *part, float *y) {
    float *gates = part, *ups = part + rows * BLOCK;
#pragma omp for schedule(dynamic, CHUNK)
    for (int64_t first = 0; first < gate->outputs; first += BLOCK) {
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
static void turned(const float *x, const float *weight, int64_t width, double eps, const float *cos, const float *sin,
                   float *y) {
    float normed[width];
    norm(x, weight, width, eps, normed);
    for (int64_t i = 0, half = width / 2; i < half; i++) {
        float a = normed[i], b = normed[i + half];
        y[i] = a * cos[i] - b * sin[i];
        y[i + half] = b * cos[i] + a * sin[i];
    }
}

// scores[s] of the keys from number s to `stop`: query times key, times factor.
static void score(const float *query, const float *keys, int64_t width, int64_t s, int64_t stop, float factor,
                  float *scores) {
    for (; s + LANES <= stop; s += LANES) {
        v8 dots[LANES] = {{0}};
        for (int64_t i = 0; i < width; i += LANES) {
            v8 q = load(query + i);
            IN_REGISTER(q);
            for (int k = 0; k < LANES; k++) dots[k] = multiply_add(q, load(keys + (s + k) * width + i), dots[k]);
        }
        for (int k = 0; k < LANES; k += 4) {
            v4 four = sums(dots[k], dots[k + 1], dots[k + 2], dots[k + 3]) * factor;
            memcpy(scores + s + k, &four, sizeof four);
        }
    }
    for (; s < stop; s++) {
        v8 dot = {0};
        for (int64_t i = 0; i < width; i += LANES)
            dot = multiply_add(load(query + i), load(keys + s * width + i), dot);
        scores[s] = sum(dot) * factor;
    }
}

// Scores of `length` keys become e to their power, but for a factor; gives the sum, or NaN where a score is no number.
static float exponents(float *scores, int64_t length) {
    int64_t padded = (length + LANES - 1) / LANES * LANES;
    for (int64_t s = length; s < padded; s++) scores[s] = -INFINITY;
    v8 most = load(scores), total = {0};
    v8i odd = most != most;
    for (int64_t s = LANES; s < padded; s += LANES) {
        v8 next = load(scores + s);
        odd |= next != next;
        v8i larger = next > most;
        most = (v8)((larger & (v8i)next) | (~larger & (v8i)most));
    }
    float largest = most[0];
    for (int i = 1; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    for (int64_t s = 0; s < padded; s += LANES) {
        v8 e = exp8(load(scores + s) - largest);
        store(scores + s, e);
        total += e;
    }
    for (int i = 0; i < LANES; i++)
        if (odd[i]) return NAN;
    return sum(total);
}

// Adds values from number s to `stop`, times their scores: `vectors` times eight numbers of them.
INLINE void mix(int vectors, const float *values, int64_t width, const float *scores, int64_t s, int64_t stop,
                float *out) {
    v8 mixed[8];
    for (int i = 0; i < vectors; i++) mixed[i] = load(out + i * LANES);
    for (; s < stop; s++)
        for (int i = 0; i < vectors; i++)
            mixed[i] = multiply_add((v8){0} + scores[s], load(values + s * width + i * LANES), mixed[i]);
    for (int i = 0; i < vectors; i++) store(out + i * LANES, mixed[i]);
}

// How many rows of a piece attend together: they and the heads of a group read the same keys, SOME_KEYS at a time.
INLINE int64_t together(const Model *m) {
    int64_t group = m->heads / m->kv_heads;
    return group < 8 ? 8 / group : 1;
}

// What attends together: `rows` rows of a piece, `together` at most, with one key/value head and the query heads that
// share it. place: of the first row. From this head on q and out are [rows, heads, width], k and v
// [rows, kv_heads, width].
typedef struct {
    int64_t head, slot, place, rows;
    float *q, *out;
    const float *k, *v;
} Turn;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Keeps the new keys and values, and attends. scores: room for [rows, group, context + LANES].
static void attend(const Model *m, const Layer *l, const Turn *turn, float *scores) {
    int64_t width = m->head_dim, group = m->heads / m->kv_heads, room = m->context + LANES;
    int64_t rows = turn->rows, place = turn->place, end = place + rows, queries = rows * group;
    float *keys = l->keys + (turn->slot * m->kv_heads + turn->head) * m->context * width;
    float *values = l->values + (turn->slot * m->kv_heads + turn->head) * m->context * width;
    float factor = 1.0f / sqrtf((float)width);
    float *query[queries], *out[queries], totals[queries];
    int64_t length[queries];  // of the keys that a query may see
    for (int64_t r = 0; r < rows; r++) {
        const float *cos = m->cos + (place + r) * width, *sin = m->sin + (place + r) * width;
        turned(turn->k + r * m->kv_heads * width, l->k_norm, width, m->eps, cos, sin, keys + (place + r) * width);
        memcpy(values + (place + r) * width, turn->v + r * m->kv_heads * width, (size_t)width * sizeof *values);
        for (int64_t g = 0; g < group; g++) {
            int64_t n = r * group + g, at = (r * m->heads + g) * width;
            length[n] = place + r + 1, query[n] = turn->q + at, out[n] = turn->out + at;
            turned(query[n], l->q_norm, width, m->eps, cos, sin, query[n]);
            memset(out[n], 0, (size_t)width * sizeof *out[n]);
        }
    }
    for (int64_t s = 0; s < end; s += SOME_KEYS)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t g = 0; g < group; g++) {
                int64_t n = r * group + g;
                score(query[n], keys, width, s, least(s + SOME_KEYS, place + r + 1), factor, scores + n * room);
            }
    for (int64_t n = 0; n < queries; n++) totals[n] = exponents(scores + n * room, length[n]);
    for (int64_t s = 0; s < end; s += SOME_KEYS)
        for (int64_t n = 0; n < queries; n++) {
            const float *own = scores + n * room;
            int64_t i = 0, stop = least(s + SOME_KEYS, length[n]);
            for (; i + 8 * LANES <= width; i += 8 * LANES) mix(8, values + i, width, own, s, stop, out[n] + i);
            for (; i < width; i += LANES) mix(1, values + i, width, own, s, stop, out[n] + i);
        }
    for (int64_t n = 0; n < queries; n++)
        for (int64_t i = 0; i < width; i++) out[n][i] /= totals[n];
}

// How much room `decode` needs for what it computes on the way.
int64_t scratch_floats(const Model *m, int64_t rows, int64_t threads) {
    int64_t shared = m->hidden + (2 * m->heads + 2 * m->kv_heads) * m->head_dim + m->intermediate;
    int64_t scores = together(m) * (m->heads / m->kv_heads) * (m->context + LANES);
    return rows * shared + threads * (rows * (m->hidden + 2 * BLOCK) + scores);
}

// y = x @ weight.T for rows of any number, inputs in steps of LANES and outputs of any number.
void linear(const Matrix *m, const float *x, int64_t rows, int64_t threads, float *y) {
#pragma omp parallel num_threads(threads)
    if (rows) product(m, x, rows, y);
}

// tokens: of all pieces, one after the other, a row each. Every piece has a slot of its own. logits: [wanted,
// vocabulary], what comes after the tokens of the rows `wanted_rows`.
void decode(const Model *m, int64_t pieces, const Piece *piece, const int64_t *tokens, int64_t wanted,
            const int64_t *wanted_rows, int64_t threads, float *scratch, float *logits) {
    int64_t hidden = m->hidden, width = m->head_dim, group = m->heads / m->kv_heads, rows = 0, first_row[pieces];
    for (int64_t p = 0; p < pieces; p++) first_row[p] = rows, rows += piece[p].rows;
    float *x = scratch;
    float *q = x + rows * hidden;
    float *mixed = q + rows * m->heads * width;
    float *k = mixed + rows * m->heads * width;
    float *v = k + rows * m->kv_heads * width;
    float *wide = v + rows * m->kv_heads * width;
    float *private = wide + rows * m->intermediate;
    for (int64_t r = 0; r < rows; r++)
        memcpy(x + r * hidden, m->embedding + tokens[r] * hidden, (size_t)hidden * sizeof *x);
#pragma omp parallel num_threads(threads)
    {
        // Norms are cheap enough for every thread to compute all of them: it saves two meetings.
        int64_t own_floats = rows * (hidden + 2 * BLOCK) + together(m) * group * (m->context + LANES);
        float *normed = private + omp_get_thread_num() * own_floats;
        float *part = normed + rows * hidden;
        float *scores = part + rows * 2 * BLOCK;
        for (int64_t i = 0; i < m->layers; i++) {
            const Layer *l = m->layer + i;
            for (int64_t r = 0; r < rows; r++) norm(x + r * hidden, l->input_norm, hidden, m->eps, normed + r * hidden);
            product(&l->q, normed, rows, q);
            product(&l->k, normed, rows, k);
            product(&l->v, normed, rows, v);
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
            for (int64_t at = 0; at < pieces * m->kv_heads; at++) {
                const Piece *p = piece + at / m->kv_heads;
                int64_t head = at % m->kv_heads;
                for (int64_t t = 0; t < p->rows; t += together(m)) {
                    int64_t own = ((first_row[p - piece] + t) * m->kv_heads + head) * width;
                    Turn turn = {head, p->slot, p->place + t, least(together(m), p->rows - t), q + own * group,
                                 mixed + own * group, k + own, v + own};
                    attend(m, l, &turn, scores);
                }
            }
            add_product(&l->o, mixed, rows, part, x);
            for (int64_t r = 0; r < rows; r++) norm(x + r * hidden, l->post_norm, hidden, m->eps, normed + r * hidden);
            gated_product(&l->gate, &l->up, normed, rows, part, wide);
            add_product(&l->down, wide, rows, part, x);
        }
        for (int64_t w = 0; w < wanted; w++)
            norm(x + wanted_rows[w] * hidden, m->final_norm, hidden, m->eps, normed + w * hidden);
        if (wanted) product(&m->head, normed, wanted, logits);
    }
}
