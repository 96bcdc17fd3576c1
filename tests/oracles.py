"""What the code should compute: plain float64 numpy loops, written from the equations.

Slow on purpose, and sharing nothing with `dreamer_h`, so that an error is not made twice.
"""

import math

import numpy as np


def symlog(x):
    """sign(x) ln(|x| + 1), Hafner et al. (2025) eq. 9."""
    return np.vectorize(lambda v: math.copysign(math.log1p(abs(v)), v))(np.float64(x))


def symexp(x):
    """sign(x) (exp(|x|) - 1)."""
    return np.vectorize(lambda v: math.copysign(math.expm1(abs(v)), v))(np.float64(x))


def almost_fair_crps(samples, target, share=0.95):
    """share x fair CRPS + (1 - share) x CRPS of M numbers: Lang et al. (2024), eq. 3 and 4."""
    count = len(samples)
    hit = sum(abs(x - target) for x in samples) / count
    apart = sum(abs(x - other) for x in samples for other in samples)
    fair = hit - apart / (2 * count * (count - 1))
    plain = hit - apart / (2 * count**2)
    return share * fair + (1 - share) * plain


def softmax(logits):
    """Along the last axis."""
    logits = np.float64(logits)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.float64(x)))


def silu(x):
    return x * sigmoid(x)


def two_hot_bins(count):
    """symexp of `count` numbers evenly from -20 to 20."""
    return np.array([float(symexp(-20.0 + 40.0 * i / (count - 1))) for i in range(count)])


def two_hot(x, bins):
    """Weights on the two bins around x that average to x; all weight on the nearest outer bin."""
    weights = np.zeros(len(bins))
    if x <= bins[0]:
        weights[0] = 1.0
    elif x >= bins[-1]:
        weights[-1] = 1.0
    else:
        k = max(i for i in range(len(bins)) if bins[i] <= x)
        weights[k] = abs(bins[k + 1] - x) / abs(bins[k + 1] - bins[k])
        weights[k + 1] = abs(bins[k] - x) / abs(bins[k + 1] - bins[k])
    return weights


def two_hot_mean(logits, bins):
    return float(np.sum(softmax(logits) * bins))


def two_hot_loss(logits, x, bins):
    return float(-np.sum(two_hot(x, bins) * np.log(softmax(logits))))


def mixed(logits, unimix):
    """(1 - u) softmax + u / C."""
    return (1.0 - unimix) * softmax(logits) + unimix / np.shape(logits)[-1]


def kl(p, q):
    """sum p ln(p / q) over classes and groups, (G, C) -> number."""
    total = 0.0
    for p_group, q_group in zip(p, q, strict=True):
        for a, b in zip(p_group, q_group, strict=True):
            total += a * math.log(a / b) if a > 0 else 0.0
    return total


def entropy(p):
    return -sum(a * math.log(a) for group in p for a in group if a > 0)


def bounded_normal(outputs):
    """(mean, std) from 2 A numbers: tanh, and 0.9 sigmoid(s + 2) + 0.1."""
    location, scale = np.split(np.float64(outputs), 2, axis=-1)
    return np.tanh(location), 0.9 * sigmoid(scale + 2.0) + 0.1


def normal_log_prob(x, mean, std):
    """ln of the product of the densities exp(-(x-m)^2 / 2 s^2) / (s sqrt(2 pi))."""
    density = np.exp(-((np.float64(x) - mean) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi))
    return np.log(density).sum(-1)


def normal_entropy(std):
    """ln(s sqrt(2 pi e)), added up."""
    return np.log(std * np.sqrt(2 * np.pi * np.e)).sum(-1)


def lambda_return(reward, discount, value, lambda_):
    """The mixture of n-step returns written out, Sutton & Barto (2018) eqs. 12.2, 12.3.

    G_t = (1 - λ) sum_n λ^(n-1) G_t^(n) + λ^(N-1) G_t^(N), where n rewards, then the value, make
    G^(n), and N steps remain.
    """
    reward, discount, value = np.float64(reward), np.float64(discount), np.float64(value)
    steps = len(reward)
    returns = []
    for t in range(steps):
        remaining = steps - t
        total = 0.0
        for n in range(1, remaining + 1):
            alive, g = 1.0, 0.0
            for i in range(t, t + n):
                g += alive * reward[i]
                alive *= discount[i]
            g += alive * value[t + n - 1]
            share = (1.0 - lambda_) * lambda_ ** (n - 1) if n < remaining else lambda_ ** (n - 1)
            total += share * g
        returns.append(total)
    return np.array(returns)


def rms_norm(x, scale, eps=1e-4):
    x = np.float64(x)
    return x / math.sqrt(float(np.mean(x**2)) + eps) * scale


def dense(x, weight, bias):
    """One output at a time."""
    return np.array(
        [sum(x[i] * weight[i, j] for i in range(len(x))) + bias[j] for j in range(len(bias))]
    )


def block_gru(
    deter, code, action, *, embed_state, embed_code, embed_action, own, own_bias, shared,
    norm_scale, gates, gates_bias,
):  # fmt: skip
    """One step of DreamerV3's recurrent core, block after block, unit after unit.

    embed_*: (weight, bias, norm scale). own: (blocks, d, d) reads a block's slice of the state;
    shared: (3 hidden, D) reads the embeddings; gates: (blocks, d, 3 d).
    """

    def embed(x, layer):
        weight, bias, scale = layer
        return silu(rms_norm(dense(x, weight, bias), scale))

    action = np.float64(action) / np.maximum(1.0, np.abs(action))
    embedding = np.concatenate(
        [embed(deter, embed_state), embed(code, embed_code), embed(action, embed_action)]
    )
    blocks, d, _ = own.shape
    hidden = np.zeros(blocks * d)
    for block in range(blocks):
        for j in range(d):
            unit = block * d + j
            total = own_bias[unit]
            for i in range(d):
                total += deter[block * d + i] * own[block, i, j]
            for i in range(len(embedding)):
                total += embedding[i] * shared[i, unit]
            hidden[unit] = total
    hidden = silu(rms_norm(hidden, norm_scale))  # over the whole state
    new = np.zeros(blocks * d)
    for block in range(blocks):
        mine = hidden[block * d : (block + 1) * d]
        bias = gates_bias[block * 3 * d : (block + 1) * 3 * d]
        gate = dense(mine, gates[block], bias)
        for j in range(d):
            reset, candidate, update = gate[j], gate[d + j], gate[2 * d + j]
            candidate = math.tanh(float(sigmoid(reset)) * candidate)
            update = float(sigmoid(update - 1.0))
            unit = block * d + j
            new[unit] = update * candidate + (1.0 - update) * deter[unit]
    return new


def conv_same(image, weight, bias):
    """(h, w, i), (k, k, i, o) -> (h, w, o), zeros around the image, k odd."""
    height, width, _ = image.shape
    k = weight.shape[0]
    out = np.zeros((height, width, weight.shape[3]))
    for y in range(height):
        for x in range(width):
            for dy in range(k):
                for dx in range(k):
                    yy, xx = y + dy - k // 2, x + dx - k // 2
                    if 0 <= yy < height and 0 <= xx < width:
                        out[y, x] += image[yy, xx] @ weight[dy, dx]
    return out + bias


class LaProp:
    """Ziyin et al. (2020) behind adaptive clipping by whole-tensor norms, tensor after tensor."""

    def __init__(self, params, learning_rate, clip, warmup, decay, momentum, eps):
        self.params = [np.float64(p) for p in params]
        self.square = [np.zeros_like(p) for p in self.params]
        self.step = [np.zeros_like(p) for p in self.params]
        self.count = 0
        self.learning_rate, self.clip, self.warmup = learning_rate, clip, warmup
        self.decay, self.momentum, self.eps = decay, momentum, eps

    def update(self, gradients):
        # the first update has rate 0: the linear increase starts there
        rate = self.learning_rate * min(1.0, self.count / self.warmup)
        self.count += 1
        for i, gradient in enumerate(gradients):
            g = np.float64(gradient)
            largest = self.clip * max(1e-3, math.sqrt(float(np.sum(self.params[i] ** 2))))
            norm = math.sqrt(float(np.sum(g**2)))
            if norm > largest:
                g = g * largest / norm
            self.square[i] = self.decay * self.square[i] + (1 - self.decay) * g**2
            root = np.sqrt(self.square[i] / (1 - self.decay**self.count))
            self.step[i] = self.momentum * self.step[i] + (1 - self.momentum) * g / (
                root + self.eps
            )
            self.params[i] = self.params[i] - rate * self.step[i] / (1 - self.momentum**self.count)
        return self.params


def percentile(values, percent):
    """Linear between the two nearest ranks."""
    ordered = sorted(np.float64(values).ravel())
    place = percent / 100.0 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
