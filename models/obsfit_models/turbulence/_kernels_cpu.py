r"""Kernels of fields and orbits: float64 arrays in, arrays out; units r_L = Omega = c = 1, fields in units of B_0.

Particles are worked on in blocks of `LANES`, one array for each component, so that the compiler puts neighbouring
particles side by side in vector registers. A field is a uniform part, a sum of plane waves and a sum of grids; any of
them may be absent. Kernels that call each other live in this one file: the cache of compiled code does not see edits
in another.

Every orbit solves :math:`dr/ds = u,\; du/ds = q\, B(r) \times u`. With q = +1 and u = -p this is back-tracking
(s is the time before now, u points where the particle came from); with q = -1 and u = p it is the motion in time.
"""

from __future__ import annotations

import numba
import numba.extending
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Waves = tuple[Floats, Floats, Floats]
Grids = tuple[Floats, Ints, Ints, Floats, Floats, Bools, Bools]

LANES = 64
# Lanes whose position and field stay in registers while all modes are added: two of 512 bits for each component. The
# compiler holds all LANES otherwise, and what does not fit goes to the stack, across cache lines.
HELD, HELD_SINGLY = 16, 32
# A multiplication and an addition may become one operation, and nothing else may change: no NaN is promised away, a
# particle that met a bad field must show it. Kernels with these flags add one product at a time, so that there is one
# way to do it: where the compiler has a choice, code from the cache comes out otherwise. `PLAIN` is for sums of two
# products.
FAST, PLAIN = {"contract", "nsz"}, {"nsz"}
HALF_TURN_SQUARED = np.pi**2
# Of a step, to the place where a sphere is crossed: 2**-48 of it.
HALVINGS = 48
# Sums in single precision between two anchors: some 25 to 40 radians of way of the shortest wave.
ANCHORED = 16
EVEN_0, EVEN_1, EVEN_2, EVEN_3, EVEN_4, EVEN_5, EVEN_6 = (
    np.float32(0.9999999891722869), np.float32(-19.73920453209656), np.float32(64.93911898396458),
    np.float32(-85.45016555129578), np.float32(60.167831737874735), np.float32(-25.968313322768903),
    np.float32(6.52961044058377),
)  # fmt: skip


def prefer_wide_vectors() -> None:
    """Ask the compiler to use vector registers of 512 bits in the calling kernel, where the processor has them.

    LLVM prefers 256 bits on some processors, for fear of a lower clock; here that costs a quarter of the speed.
    """


@numba.extending.intrinsic
def mark_function(typing_context):  # type: ignore[no-untyped-def]
    """Set the LLVM attribute of the function that is being compiled."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        # Plain `add` of llvmlite knows attributes without a value only.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return numba.void(), generate


@numba.extending.overload(prefer_wide_vectors, inline="always")
def compiled_prefer_wide_vectors():  # type: ignore[no-untyped-def]
    """Mark the caller, into which this is inlined."""
    return lambda: mark_function()  # type: ignore[call-arg]


def promise_apart() -> None:
    """Promise the compiler that no two arrays given to the calling kernel share memory.

    Without it sums are read and written again for every mode, and rows compared for overlaps: 1.4 to 1.8 times slower.
    """


@numba.extending.intrinsic
def mark_arguments(typing_context):  # type: ignore[no-untyped-def]
    """Set the LLVM attribute of the arrays that the function which is being compiled is given."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        for argument in builder.function.args:
            # Of what numba makes of an array, the fifth is the address of its values.
            if argument.name.endswith(".4"):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return numba.void(), generate


@numba.extending.overload(promise_apart, inline="always")
def compiled_promise_apart():  # type: ignore[no-untyped-def]
    """Mark the arguments of the caller, into which this is inlined."""
    return lambda: mark_arguments()  # type: ignore[call-arg]


def assume(condition: bool) -> None:
    """Promise the compiler what it cannot know, such as the distances in an array: it does not check."""


@numba.extending.intrinsic
def note_assumption(typing_context, condition):  # type: ignore[no-untyped-def]
    """Tell LLVM that a condition holds."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.assume(arguments[0])
        return context.get_dummy_value()

    return numba.void(condition), generate


@numba.extending.overload(assume, inline="always")
def compiled_assume(condition):  # type: ignore[no-untyped-def]
    """Note the assumption of the caller, into which this is inlined."""
    return lambda condition: note_assumption(condition)  # type: ignore[call-arg]


@numba.njit(cache=True)
def blocks(count: int) -> Floats:
    """Return arrays (count, 3, LANES) that start where a cache line does: loads across lines cost a fifth."""
    size = count * 3 * LANES
    memory = np.empty(size + 8)
    start = -(memory.ctypes.data // 8) % 8
    return memory[start : start + size].reshape((count, 3, LANES))


@numba.njit(cache=True)
def rows_singly(count: int) -> Singles:
    """Return rows (count, LANES) in single precision that start where a cache line does."""
    memory = blocks((count + 5) // 6)
    return memory.reshape(memory.size).view(np.float32)[: count * LANES].reshape((count, LANES))


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def add_waves_exactly(
    position: Floats, wave: Floats, amplitude: Floats, phase: Floats, first: int, last: int, field: Floats
) -> None:
    """Add modes as `add_waves` does, with cosines to 2e-16."""
    prefer_wide_vectors()
    promise_apart()
    assume(position.shape[1] == LANES)
    assume(field.shape[1] == LANES)
    for part in range(0, LANES, HELD):
        for m in range(first, last):
            kx, ky, kz, shift = wave[0, m], wave[1, m], wave[2, m], phase[m]
            ax, ay, az = amplitude[0, m], amplitude[1, m], amplitude[2, m]
            for i in range(part, part + HELD):
                turns = shift + kx * position[0, i] + ky * position[1, i] + kz * position[2, i]
                v = 0.25 - abs(turns - np.rint(turns))
                u = v * v
                cosine = v * (
                    6.2831853071795857574 + u * (-41.341702240398286582 + u * (81.60524927557976415 + u * (
                    -76.70585968962867265 + u * (42.058689953950938581 + u * (-15.094506140734291304 + u * (
                    3.817365633469135203 - u * 0.69250670107207173421)))))))  # fmt: skip
                field[0, i] += ax * cosine
                field[1, i] += ay * cosine
                field[2, i] += az * cosine


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def add_waves_quickly(
    position: Floats, wave: Floats, amplitude: Floats, phase: Floats, first: int, last: int, field: Floats
) -> None:
    """Add modes as `add_waves` does, with cosines to 1.1e-8."""
    prefer_wide_vectors()
    promise_apart()
    assume(position.shape[1] == LANES)
    assume(field.shape[1] == LANES)
    for part in range(0, LANES, HELD):
        for m in range(first, last):
            kx, ky, kz, shift = wave[0, m], wave[1, m], wave[2, m], phase[m]
            ax, ay, az = amplitude[0, m], amplitude[1, m], amplitude[2, m]
            for i in range(part, part + HELD):
                turns = shift + kx * position[0, i] + ky * position[1, i] + kz * position[2, i]
                v = turns - np.rint(turns)
                u = v * v
                # The even polynomial of least error on half a turn to either side.
                cosine = 0.9999999891722869 + u * (-19.73920453209656 + u * (64.93911898396458 + u * (
                    -85.45016555129578 + u * (60.167831737874735 + u * (-25.968313322768903
                    + u * 6.52961044058377)))))  # fmt: skip
                field[0, i] += ax * cosine
                field[1, i] += ay * cosine
                field[2, i] += az * cosine


@numba.njit(cache=True, error_model="numpy")
def add_waves(
    position: Floats,
    wave: Floats,
    amplitude: Floats,
    phase: Floats,
    first: int,
    last: int,
    exact: bool,
    field: Floats,
) -> None:
    """Add modes first ... last - 1 at the positions (3, LANES) of a block to the field (3, LANES).

    `wave` (3, n) is in turns per unit length, `phase` (n,) in turns, so that the argument of the cosine is reduced by
    subtracting the nearest whole number; the rest is a polynomial, with an error of 2e-16 if `exact`, else of 1.1e-8.
    """
    if exact:
        add_waves_exactly(position, wave, amplitude, phase, first, last, field)
    else:
        add_waves_quickly(position, wave, amplitude, phase, first, last, field)


@numba.njit(cache=True, error_model="numpy")
def add_grids(
    position: Floats,
    values: Floats,
    shape: Ints,
    start: Ints,
    origin: Floats,
    spacing: Floats,
    periodic: Bools,
    cubic: Bools,
    field: Floats,
) -> None:
    """Add all grids at the positions of a block to its field; outside of a grid that is not periodic it adds nothing.

    `values` (n,) holds the grids one after another, each of shape (nx, ny, nz, 3), from `start` on; a value belongs to
    the point origin + index * spacing. `cubic` chooses between trilinear and tricubic (Catmull-Rom) interpolation.
    """
    weight = np.empty((3, 4))
    index = np.empty((3, 4), dtype=np.int64)
    for g in range(shape.shape[0]):
        taps = 4 if cubic[g] else 2
        for i in range(LANES):
            inside = True
            for axis in range(3):
                n = shape[g, axis]
                place = (position[axis, i] - origin[g, axis]) / spacing[g, axis]
                if not np.isfinite(place):
                    inside = False
                    break
                base = np.floor(place)
                f = place - base
                if periodic[g]:
                    base -= n * np.floor(base / n)
                elif place < 0.0 or place > n - 1.0:
                    inside = False
                    break
                cell = np.int64(base)
                if taps == 2:
                    weight[axis, 0], weight[axis, 1] = 1.0 - f, f
                else:
                    weight[axis, 0] = f * (-0.5 + f * (1.0 - 0.5 * f))
                    weight[axis, 1] = 1.0 + f * f * (-2.5 + 1.5 * f)
                    weight[axis, 2] = f * (0.5 + f * (2.0 - 1.5 * f))
                    weight[axis, 3] = f * f * (-0.5 + 0.5 * f)
                for tap in range(taps):
                    at = cell + tap - (taps // 2 - 1)
                    # The edge is repeated where a grid that is not periodic ends.
                    index[axis, tap] = at % n if periodic[g] else min(max(at, 0), n - 1)
            if not inside:
                continue
            bx, by, bz = 0.0, 0.0, 0.0
            for a in range(taps):
                for b in range(taps):
                    plane = weight[0, a] * weight[1, b]
                    row = start[g] + 3 * shape[g, 2] * (index[1, b] + shape[g, 1] * index[0, a])
                    for c in range(taps):
                        share = plane * weight[2, c]
                        at = row + 3 * index[2, c]
                        bx += share * values[at]
                        by += share * values[at + 1]
                        bz += share * values[at + 2]
            field[0, i] += bx
            field[1, i] += by
            field[2, i] += bz


@numba.njit(cache=True, error_model="numpy")
def fill_block(lanes: Floats, values: Floats) -> None:
    """Set lanes (3, LANES) to one vector (3,)."""
    for axis in range(3):
        for i in range(LANES):
            lanes[axis, i] = values[axis]


@numba.njit(cache=True, error_model="numpy")
def field_of_block(
    position: Floats, uniform: Floats, waves: Waves, grids: Grids, exact: bool, field: Floats
) -> None:
    """Set the field (3, LANES) at the positions (3, LANES) of a block.

    `waves` is (wave, amplitude, phase) of `add_waves`, `grids` is (values, shape, start, origin, spacing, periodic,
    cubic) of `add_grids`.
    """
    wave, amplitude, phase = waves
    fill_block(field, uniform)
    if phase.size:
        add_waves(position, wave, amplitude, phase, 0, phase.size, exact, field)
    values, shape, start, origin, spacing, periodic, cubic = grids
    if start.size:
        add_grids(position, values, shape, start, origin, spacing, periodic, cubic, field)


@numba.njit(cache=True, error_model="numpy")
def load_block(values: Floats, block: int, lanes: Floats) -> None:
    """Copy particles from `block` on, of (3, n), into lanes (3, LANES); beyond the last one, it is repeated."""
    last = values.shape[1] - 1
    for axis in range(3):
        for i in range(LANES):
            lanes[axis, i] = values[axis, min(block + i, last)]


@numba.njit(cache=True, error_model="numpy")
def store_block(lanes: Floats, block: int, values: Floats) -> None:
    """Copy the lanes (3, LANES) that hold particles of their own to `values` (3, n), from `block` on."""
    for axis in range(3):
        for i in range(min(LANES, values.shape[1] - block)):
            values[axis, block + i] = lanes[axis, i]


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def drift(position: Floats, direction: Floats, step: float) -> None:
    """Move a block along straight lines."""
    prefer_wide_vectors()
    promise_apart()
    assume(position.shape[1] == LANES)
    assume(direction.shape[1] == LANES)
    for axis in range(3):
        for i in range(LANES):
            position[axis, i] += step * direction[axis, i]


@numba.njit(cache=True, fastmath=PLAIN, error_model="numpy")
def turn(direction: Floats, field: Floats, angle: float) -> None:
    """Rotate as `rotate` does, by polynomials that hold up to half a turn."""
    prefer_wide_vectors()
    promise_apart()
    assume(direction.shape[1] == LANES)
    assume(field.shape[1] == LANES)
    for i in range(LANES):
        x, y, z = direction[0, i], direction[1, i], direction[2, i]
        ax, ay, az = angle * field[0, i], angle * field[1, i], angle * field[2, i]
        t = ax * ax + ay * ay + az * az
        s = 0.5 + t * (-0.020833333333333331634 + t * (0.0002604166666666620745 + t * (
            -1.5500992063444277477e-6 + t * (5.3822889084432825434e-9 + t * (-1.2232474067660798213e-11
            + t * (1.9603199314558788978e-14 + t * (-2.3324666009434914134e-17
            + t * 2.0763968981158022176e-20)))))))  # fmt: skip
        w = 1.0 + t * (-0.12499999999999993561 + t * (0.0026041666666664926463 + t * (
            -0.000021701388888707796736 + t * (9.6881200302402048454e-8 + t * (-2.6911441788111084771e-10
            + t * (5.096816855452432441e-13 + t * (-6.9964000865217741607e-16
            + t * 7.0327407882717850195e-19)))))))  # fmt: skip
        vx, vy, vz = s * ax, s * ay, s * az
        cx = vy * z - vz * y + w * x
        cy = vz * x - vx * z + w * y
        cz = vx * y - vy * x + w * z
        direction[0, i] = x + 2.0 * (vy * cz - vz * cy)
        direction[1, i] = y + 2.0 * (vz * cx - vx * cz)
        direction[2, i] = z + 2.0 * (vx * cy - vy * cx)


@numba.njit(cache=True, error_model="numpy")
def turn_far(direction: Floats, field: Floats, angle: float, limit: float) -> None:
    """Rotate as `rotate` does, with sine and cosine of the library where the squared field exceeds the limit."""
    before = direction.copy()
    turn(direction, field, angle)
    for i in range(LANES):
        square = field[0, i] ** 2 + field[1, i] ** 2 + field[2, i] ** 2
        if square > limit:
            t = angle * np.sqrt(square)
            s, w = angle * np.sin(0.5 * t) / t, np.cos(0.5 * t)
            vx, vy, vz = s * field[0, i], s * field[1, i], s * field[2, i]
            x, y, z = before[0, i], before[1, i], before[2, i]
            cx, cy, cz = vy * z - vz * y + w * x, vz * x - vx * z + w * y, vx * y - vy * x + w * z
            direction[0, i] = x + 2.0 * (vy * cz - vz * cy)
            direction[1, i] = y + 2.0 * (vz * cx - vx * cz)
            direction[2, i] = z + 2.0 * (vx * cy - vy * cx)


@numba.njit(cache=True, fastmath=PLAIN, error_model="numpy")
def rotate(direction: Floats, field: Floats, angle: float) -> None:
    """Rotate the directions (3, LANES) of a block about the field by angle * |field|, in place.

    With v = b sin(t/2), w = cos(t/2): u' = u + 2 v x (v x u + w u). Sine and cosine of half the angle are polynomials
    to 4e-18 up to half a turn, so that |u| is kept to rounding; beyond, those of the library. Each lane is turned in
    the same way whatever its neighbours are.
    """
    prefer_wide_vectors()
    assume(field.shape[1] == LANES)
    limit = HALF_TURN_SQUARED / (angle * angle)
    beyond = 0
    for i in range(LANES):
        beyond += field[0, i] ** 2 + field[1, i] ** 2 + field[2, i] ** 2 > limit
    if beyond > 0:
        turn_far(direction, field, angle, limit)
    else:
        turn(direction, field, angle)


@numba.njit(cache=True, error_model="numpy")
def leapfrog(
    position: Floats,
    direction: Floats,
    charge: float,
    steps: Floats,
    counts: Ints,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    exact: bool,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles with half a drift, an exact rotation, half a drift; one field sum for each step.

    `position` and `direction` (3, n) are the start; counts[0] steps of length steps[0] lead to the first output, and
    so on: `positions` and `directions` (n_out, 3, n) receive the states. The scheme is of second order, time
    reversible, keeps |u| and the phase-space volume.
    """
    wave, amplitude, phase = waves
    values, shape, start, origin, spacing, periodic, cubic = grids
    n = position.shape[1]
    work = blocks(3)
    r, b, u = work[0], work[1], work[2]
    for block in range(0, n, LANES):
        load_block(position, block, r)
        load_block(direction, block, u)
        for out in range(counts.size):
            step = steps[out]
            if counts[out] > 0:
                drift(r, u, 0.5 * step)
            for count in range(counts[out]):
                # As `field_of_block`, whose tuples would be taken apart, and their arrays counted, in each step.
                fill_block(b, uniform)
                if exact:
                    add_waves_exactly(r, wave, amplitude, phase, 0, phase.size, b)
                else:
                    add_waves_quickly(r, wave, amplitude, phase, 0, phase.size, b)
                if start.size:
                    add_grids(r, values, shape, start, origin, spacing, periodic, cubic, b)
                rotate(u, b, charge * step)
                drift(r, u, step if count + 1 < counts[out] else 0.5 * step)
            store_block(r, block, positions[out])
            store_block(u, block, directions[out])


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def anchor_waves(
    work: Floats, place: int, home: int, wave: Floats, phase: Floats, first: int, last: int, anchored: Singles
) -> None:
    """Make work[place] (3, LANES) the anchor work[home], and set the phases of modes there, less whole turns.

    `anchored` (n, LANES) is in single precision, the anchor in double.
    """
    prefer_wide_vectors()
    promise_apart()
    assume(work.shape[1] == 3)
    assume(work.shape[2] == LANES)
    assume(anchored.shape[1] == LANES)
    for axis in range(3):
        for i in range(LANES):
            work[home, axis, i] = work[place, axis, i]
    for m in range(first, last):
        kx, ky, kz, shift = wave[0, m], wave[1, m], wave[2, m], phase[m]
        for i in range(LANES):
            turns = shift + kx * work[home, 0, i] + ky * work[home, 1, i] + kz * work[home, 2, i]
            anchored[m, i] = np.float32(turns - np.rint(turns))


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def add_anchored_waves(
    work: Floats,
    place: int,
    home: int,
    field: int,
    wave: Singles,
    amplitude: Singles,
    first: int,
    last: int,
    anchored: Singles,
    lanes: Singles,
) -> None:
    """Add modes first ... last - 1 at work[place] (3, LANES) to work[field], with sums in single precision.

    Their phases at the anchor work[home] are those of `anchor_waves`; what the way from there adds is in single
    precision, so that the anchor is to be set again every `ANCHORED` sums, or rounding grows with the distance.
    `lanes` (2, 3, LANES) is overwritten.
    """
    prefer_wide_vectors()
    promise_apart()
    assume(work.shape[1] == 3)
    assume(work.shape[2] == LANES)
    assume(lanes.shape[1] == 3)
    assume(lanes.shape[2] == LANES)
    assume(anchored.shape[1] == LANES)
    for axis in range(3):
        for i in range(LANES):
            lanes[0, axis, i] = np.float32(work[place, axis, i] - work[home, axis, i])
            lanes[1, axis, i] = np.float32(0.0)
    for part in range(0, LANES, HELD_SINGLY):
        for m in range(first, last):
            kx, ky, kz = wave[0, m], wave[1, m], wave[2, m]
            ax, ay, az = amplitude[0, m], amplitude[1, m], amplitude[2, m]
            for i in range(part, part + HELD_SINGLY):
                turns = anchored[m, i] + kx * lanes[0, 0, i] + ky * lanes[0, 1, i] + kz * lanes[0, 2, i]
                v = turns - np.rint(turns)
                u = v * v
                # As in `add_waves`, rounded to single precision.
                cosine = EVEN_0 + u * (
                    EVEN_1 + u * (EVEN_2 + u * (EVEN_3 + u * (EVEN_4 + u * (EVEN_5 + u * EVEN_6))))
                )
                lanes[1, 0, i] += ax * cosine
                lanes[1, 1, i] += ay * cosine
                lanes[1, 2, i] += az * cosine
    for axis in range(3):
        for i in range(LANES):
            work[field, axis, i] += lanes[1, axis, i]


@numba.njit(cache=True, error_model="numpy")
def anchored_leapfrog(
    position: Floats,
    direction: Floats,
    charge: float,
    steps: Floats,
    counts: Ints,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles as `leapfrog` does, with sums of waves in single precision (`add_anchored_waves`)."""
    wave, amplitude, phase = waves
    values, shape, start, origin, spacing, periodic, cubic = grids
    single_wave, single_amplitude = wave.astype(np.float32), amplitude.astype(np.float32)
    anchored, lanes = rows_singly(phase.size), rows_singly(6).reshape((2, 3, LANES))
    n = position.shape[1]
    work = blocks(4)
    r, b, u = work[0], work[1], work[2]
    for block in range(0, n, LANES):
        load_block(position, block, r)
        load_block(direction, block, u)
        since = 0
        for out in range(counts.size):
            step = steps[out]
            if counts[out] > 0:
                drift(r, u, 0.5 * step)
            for count in range(counts[out]):
                fill_block(b, uniform)
                if since % ANCHORED == 0:
                    anchor_waves(work, 0, 3, wave, phase, 0, phase.size, anchored)
                add_anchored_waves(work, 0, 3, 1, single_wave, single_amplitude, 0, phase.size, anchored, lanes)
                since += 1
                if start.size:
                    add_grids(r, values, shape, start, origin, spacing, periodic, cubic, b)
                rotate(u, b, charge * step)
                drift(r, u, step if count + 1 < counts[out] else 0.5 * step)
            store_block(r, block, positions[out])
            store_block(u, block, directions[out])


@numba.njit(cache=True, error_model="numpy")
def compose(
    position: Floats,
    direction: Floats,
    charge: float,
    steps: Floats,
    counts: Ints,
    weights: Floats,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles by leapfrogs of lengths weights * step, one after another, in each step.

    Weights that read the same backwards make a time-reversible scheme that keeps |u| and the phase-space volume:
    Yoshida's three give fourth order. Arguments otherwise as `leapfrog`; cosines to 2e-16.
    """
    n = position.shape[1]
    work = blocks(3)
    r, b, u = work[0], work[1], work[2]
    for block in range(0, n, LANES):
        load_block(position, block, r)
        load_block(direction, block, u)
        for out in range(counts.size):
            for _ in range(counts[out]):
                for weight in weights:
                    step = weight * steps[out]
                    drift(r, u, 0.5 * step)
                    field_of_block(r, uniform, waves, grids, True, b)
                    rotate(u, b, charge * step)
                    drift(r, u, 0.5 * step)
            store_block(r, block, positions[out])
            store_block(u, block, directions[out])


@numba.njit(cache=True, inline="always")
def before(newest: int, steps: int, rows: int) -> int:
    """Return the row of a ring so many steps before the newest; without a division."""
    row = newest - steps
    return row + rows if row < 0 else row


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def predict(state: Floats, step: float, weights: Floats, which: int, ring: Floats, newest: int) -> None:
    """Extrapolate position, direction and force of a state (see `correct`) through the last forces, in one pass.

    `ring` (n_row, 3 * LANES) holds the forces, taken from its newest row backwards with weights[which] (3, n_row),
    four rows at a time; n_row is a multiple of four. The position starts on a straight line of length `step`.
    """
    prefer_wide_vectors()
    promise_apart()
    assume(ring.shape[1] == 3 * LANES)
    rows = ring.shape[0]
    for j in range(0, rows, 4):
        # Rows by their numbers: an array made of each would be counted as in use, at the cost of a tenth of a step.
        n0, n1 = before(newest, j, rows), before(newest, j + 1, rows)
        n2, n3 = before(newest, j + 2, rows), before(newest, j + 3, rows)
        r0, r1 = weights[which, 0, j], weights[which, 0, j + 1]
        r2, r3 = weights[which, 0, j + 2], weights[which, 0, j + 3]
        u0, u1 = weights[which, 1, j], weights[which, 1, j + 1]
        u2, u3 = weights[which, 1, j + 2], weights[which, 1, j + 3]
        f0, f1 = weights[which, 2, j], weights[which, 2, j + 1]
        f2, f3 = weights[which, 2, j + 2], weights[which, 2, j + 3]
        # What is written lies at fixed distances in one array: the compiler sees that it overlaps nothing there.
        if j == 0:
            for i in range(3 * LANES):
                position, direction = state[i], state[i + 6 * LANES]
                s0, s1, s2, s3 = ring[n0, i], ring[n1, i], ring[n2, i], ring[n3, i]
                state[i + 9 * LANES] = position + step * direction + r0 * s0 + r1 * s1 + r2 * s2 + r3 * s3
                state[i + 12 * LANES] = direction + u0 * s0 + u1 * s1 + u2 * s2 + u3 * s3
                # Not f0 * s0 + f1 * s1, of which either product could be the one that is not rounded.
                state[i + 15 * LANES] = s0 + (f0 - 1.0) * s0 + f1 * s1 + f2 * s2 + f3 * s3
        else:
            for i in range(3 * LANES):
                s0, s1, s2, s3 = ring[n0, i], ring[n1, i], ring[n2, i], ring[n3, i]
                state[i + 9 * LANES] = state[i + 9 * LANES] + r0 * s0 + r1 * s1 + r2 * s2 + r3 * s3
                state[i + 12 * LANES] = state[i + 12 * LANES] + u0 * s0 + u1 * s1 + u2 * s2 + u3 * s3
                state[i + 15 * LANES] = state[i + 15 * LANES] + f0 * s0 + f1 * s1 + f2 * s2 + f3 * s3


@numba.njit(cache=True, fastmath=FAST, error_model="numpy")
def add_past(weights: Floats, band: int, passed: int, sums: Floats, newest: int, state: Floats) -> None:
    """Add to the field of a state (see `correct`) a band, as expected `passed` steps after its newest sum.

    `sums` (n_band, n_row, 3 * LANES) are rings of the last sums, taken backwards with weights[band, passed] (n_row,).
    """
    prefer_wide_vectors()
    promise_apart()
    assume(sums.shape[2] == 3 * LANES)
    rows = sums.shape[1]
    whole = rows - rows % 4
    for j in range(0, whole, 4):
        n0, n1 = before(newest, j, rows), before(newest, j + 1, rows)
        n2, n3 = before(newest, j + 2, rows), before(newest, j + 3, rows)
        w0, w1 = weights[band, passed, j], weights[band, passed, j + 1]
        w2, w3 = weights[band, passed, j + 2], weights[band, passed, j + 3]
        for i in range(3 * LANES):
            field = state[i + 3 * LANES] + w0 * sums[band, n0, i] + w1 * sums[band, n1, i]
            state[i + 3 * LANES] = field + w2 * sums[band, n2, i] + w3 * sums[band, n3, i]
    for j in range(whole, rows):
        n0, w0 = before(newest, j, rows), weights[band, passed, j]
        for i in range(3 * LANES):
            state[i + 3 * LANES] += w0 * sums[band, n0, i]


@numba.njit(cache=True, fastmath=PLAIN, error_model="numpy")
def correct(
    work: Floats, charge: float, for_position: float, for_direction: float, ring: Floats, newest: int
) -> None:
    """Set the state from the predicted one, the force expected there and the field found there, all in one array.

    `work` (7 * 3 * LANES,) holds blocks of three rows: position, field, direction, then the two predicted ones, the
    force expected, and in one row of the last the largest difference of the square of the direction from 1 before it
    is made a unit vector. The newest row of the ring (n_row, 3 * LANES) receives the force for the direction that
    results.
    """
    prefer_wide_vectors()
    promise_apart()
    assume(ring.shape[1] == 3 * LANES)
    for i in range(LANES):
        # One array with fixed distances, so that the compiler can see that no rows overlap.
        bx, by, bz = charge * work[i + 3 * LANES], charge * work[i + 4 * LANES], charge * work[i + 5 * LANES]
        ux, uy, uz = work[i + 12 * LANES], work[i + 13 * LANES], work[i + 14 * LANES]
        dx = by * uz - bz * uy - work[i + 15 * LANES]
        dy = bz * ux - bx * uz - work[i + 16 * LANES]
        dz = bx * uy - by * ux - work[i + 17 * LANES]
        work[i] = work[i + 9 * LANES] + for_position * dx
        work[i + LANES] = work[i + 10 * LANES] + for_position * dy
        work[i + 2 * LANES] = work[i + 11 * LANES] + for_position * dz
        ux += for_direction * dx
        uy += for_direction * dy
        uz += for_direction * dz
        square = ux * ux + uy * uy + uz * uz
        excess = square - 1.0
        change = abs(excess)
        work[i + 18 * LANES] = change if change > work[i + 18 * LANES] else work[i + 18 * LANES]
        # 1 / sqrt(1 + excess) up to its third power: excess is of the order of the error of a step.
        scale = 1.0 - excess * (0.5 - excess * (0.375 - 0.3125 * excess))
        ux, uy, uz = scale * ux, scale * uy, scale * uz
        work[i + 6 * LANES], work[i + 7 * LANES], work[i + 8 * LANES] = ux, uy, uz
        ring[newest, i] = by * uz - bz * uy
        ring[newest, i + LANES] = bz * ux - bx * uz
        ring[newest, i + 2 * LANES] = bx * uy - by * ux


@numba.njit(cache=True, error_model="numpy")
def adams(
    position: Floats,
    direction: Floats,
    charge: float,
    step: float,
    order: int,
    forward: Floats,
    corrector: Floats,
    edges: Ints,
    periods: Ints,
    forecast: Floats,
    weights: Floats,
    substeps: int,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    exact: bool,
    single: bool,
    after: Ints,
    back: Floats,
    dense: Floats,
    positions: Floats,
    directions: Floats,
    drifts: Floats,
) -> None:
    """Follow particles by a multistep scheme that sums slow waves less often than fast ones.

    Each step extrapolates the state through the last forces du/ds, sums the field there once, and corrects (Adams:
    predict, evaluate, correct, with the force of the corrected direction kept). forward[0] (3, width) holds the weights
    of the last forces, newest first, for position, direction and force one step ahead; `corrector` (2,) those of the
    difference of the force found from the force expected, for position and direction.

    Waves edges[band] ... edges[band + 1] - 1 are summed every periods[band] steps; in between their field is
    extrapolated in time through the last sums, `forecast` (n_band - 1, longest period, points), newest first, by how
    many steps have passed. Until there are enough sums, all are summed at every step; those of the first steps err
    more and are not extrapolated. The last band is of period 1.
    Sums are those of `add_waves`, or with `single` those of `add_anchored_waves`, one anchor for each band.
    The first order - 1 steps are `substeps` compositions of leapfrogs each, as in `compose`. The width of `forward` and
    `dense` is a multiple of four, with zeros at the end.

    Outputs are dense: the state out is found from the step after[out] by the time back[out], not positive, with the
    weights dense[out] (3, width) as `forward` has them; what they say of the force is not used. `drifts` (n,) receives
    the largest change of |u| in a step, before it was made 1 again.
    """
    n, rows, slow, points = position.shape[1], forward.shape[2], periods.size - 1, forecast.shape[2]
    wave, amplitude, phase = waves
    single_wave, single_amplitude = wave.astype(np.float32), amplitude.astype(np.float32)
    anchored, lanes = rows_singly(phase.size if single else 0), rows_singly(6).reshape((2, 3, LANES))
    # Rows of the work: position, field, direction, the two predicted ones, the force expected, the change of |u|; then
    # the last forces, the last sums of each slow band, and the anchors of all bands.
    size, past = 3 * LANES, 7
    ring = past + rows
    homes = ring + slow * points
    work = blocks(homes + slow + 1)
    r, b, u, ahead, turned, change = work[0], work[1], work[2], work[3], work[4], work[6, 0]
    flat = work.reshape(work.size)
    state = flat[: past * size]
    history = flat[past * size : ring * size].reshape((rows, size))
    sums = flat[ring * size : homes * size].reshape((slow, points, size))
    since, latest = np.zeros(slow + 1, dtype=np.int64), np.zeros(slow + 1, dtype=np.int64)
    summed = np.zeros(slow + 1, dtype=np.int64)
    for block in range(0, n, LANES):
        held = min(LANES, n - block)
        flat[:] = 0.0
        load_block(position, block, r)
        load_block(direction, block, u)
        out, count, newest = 0, 0, 0
        summed[:] = 0
        since[:] = 0
        latest[:] = 0
        while out < after.size:
            starting = count < order
            if starting:
                if count > 0:
                    part = step / substeps
                    for _ in range(substeps):
                        for weight in weights:
                            drift(r, u, 0.5 * weight * part)
                            field_of_block(r, uniform, waves, grids, exact, b)
                            rotate(u, b, charge * weight * part)
                            drift(r, u, 0.5 * weight * part)
                ahead[:] = r
                turned[:] = u
            else:
                predict(state, step, forward, 0, history, (newest if newest > 0 else rows) - 1)
            fill_block(b, uniform)
            for band in range(slow + 1):
                passed, last = since[band], latest[band]
                if passed > 0 and count >= order + (points - 1) * periods[band]:
                    add_past(forecast, band, passed, sums, last, state)
                    continue
                # Slow bands are summed by themselves, to be kept.
                kept = passed == 0 and band < slow
                target = ring + band * points + last if kept else 1
                if kept:
                    for i in range(size):
                        sums[band, last, i] = 0.0
                if single:
                    home, first, end = homes + band, edges[band], edges[band + 1]
                    if summed[band] % ANCHORED == 0:
                        anchor_waves(work, 3, home, wave, phase, first, end, anchored)
                    add_anchored_waves(
                        work, 3, home, target, single_wave, single_amplitude, first, end, anchored, lanes
                    )
                    summed[band] += 1
                else:
                    add_waves(ahead, wave, amplitude, phase, edges[band], edges[band + 1], exact, work[target])
                if kept:
                    for i in range(size):
                        state[size + i] += sums[band, last, i]
            if starting:
                # No correction: the state is that of the compositions.
                correct(state, charge, 0.0, 0.0, history, newest)
            else:
                correct(state, charge, corrector[0], corrector[1], history, newest)
            while out < after.size and count == after[out]:
                predict(state, back[out], dense, out, history, newest)
                for i in range(held):
                    square = turned[0, i] ** 2 + turned[1, i] ** 2 + turned[2, i] ** 2
                    for axis in range(3):
                        positions[out, axis, block + i] = ahead[axis, i]
                        directions[out, axis, block + i] = turned[axis, i] / np.sqrt(square)
                out += 1
            count += 1
            newest = newest + 1 if newest + 1 < rows else 0
            for band in range(slow + 1):
                since[band] += 1
                if since[band] == periods[band]:
                    since[band] = 0
                    latest[band] = latest[band] + 1 if latest[band] + 1 < points else 0
        for i in range(held):
            # |u| - 1 from its square.
            drifts[block + i] = change[i] / (1.0 + np.sqrt(1.0 + change[i]))


@numba.njit(cache=True, error_model="numpy")
def field_at(position: Floats, uniform: Floats, waves: Waves, grids: Grids, field: Floats) -> None:
    """Set the field (3, n) at positions (3, n), with cosines to 2e-16."""
    n = position.shape[1]
    work = blocks(2)
    r, b = work[0], work[1]
    for block in range(0, n, LANES):
        load_block(position, block, r)
        field_of_block(r, uniform, waves, grids, True, b)
        store_block(b, block, field)


@numba.njit(cache=True, error_model="numpy")
def first_crossings(
    position: Floats,
    direction: Floats,
    charge: float,
    step: float,
    most: int,
    radii: Floats,
    uniform: Floats,
    waves: Waves,
    grids: Grids,
    exact: bool,
    times: Floats,
    positions: Floats,
    directions: Floats,
) -> None:
    """Follow particles by `leapfrog` until they have crossed the largest sphere, or for `most` steps.

    For each radius (n_radii,), increasing, and each particle: time, place and direction of the first crossing of that
    sphere about the starting point, on the cubic through the two ends of the step and the directions there; `times`
    (n_radii, n) is NaN where there was none, and `positions` and `directions` (n_radii, 3, n) are then the last state.
    """
    n, n_radii = position.shape[1], radii.size
    work = blocks(6)
    r, b, u, before, home, way = work[0], work[1], work[2], work[3], work[4], work[5]
    who, reached = np.empty(LANES, dtype=np.int64), np.zeros(LANES, dtype=np.int64)
    steps = np.zeros(LANES, dtype=np.int64)
    times[:] = np.nan
    # Lanes are filled again as particles leave, so that a block is never mostly empty.
    waiting, active = 0, 0
    for i in range(LANES):
        who[i] = -1
    while True:
        for i in range(LANES):
            if who[i] < 0 and waiting < n:
                who[i] = waiting
                for axis in range(3):
                    home[axis, i] = position[axis, waiting]
                    r[axis, i] = position[axis, waiting]
                    u[axis, i] = direction[axis, waiting]
                reached[i], steps[i] = 0, 0
                waiting += 1
                active += 1
            elif who[i] < 0 and steps[i] == 0:
                for axis in range(3):
                    home[axis, i], r[axis, i], u[axis, i] = 0.0, 0.0, 0.0
        if active == 0:
            return
        for axis in range(3):
            for i in range(LANES):
                before[axis, i] = r[axis, i]
                way[axis, i] = u[axis, i]
        drift(r, u, 0.5 * step)
        field_of_block(r, uniform, waves, grids, exact, b)
        rotate(u, b, charge * step)
        drift(r, u, 0.5 * step)
        for i in range(LANES):
            if who[i] < 0:
                continue
            steps[i] += 1
            outer = 0.0
            for axis in range(3):
                outer += (r[axis, i] - home[axis, i]) ** 2
            while reached[i] < n_radii and outer >= radii[reached[i]] ** 2:
                out, particle = reached[i], who[i]
                low, high = 0.0, 1.0
                for _ in range(HALVINGS):
                    share = 0.5 * (low + high)
                    reach = 0.0
                    for axis in range(3):
                        a, b0, b1 = before[axis, i] - home[axis, i], step * way[axis, i], step * u[axis, i]
                        d = r[axis, i] - before[axis, i]
                        at = a + share * (b0 + share * (3.0 * d - 2.0 * b0 - b1 + share * (b0 + b1 - 2.0 * d)))
                        reach += at * at
                    if reach < radii[out] ** 2:
                        low = share
                    else:
                        high = share
                times[out, particle] = step * (steps[i] - 1 + high)
                norm = 0.0
                for axis in range(3):
                    b0, b1, d = step * way[axis, i], step * u[axis, i], r[axis, i] - before[axis, i]
                    second, third = 3.0 * d - 2.0 * b0 - b1, b0 + b1 - 2.0 * d
                    positions[out, axis, particle] = before[axis, i] + high * (b0 + high * (second + high * third))
                    directions[out, axis, particle] = b0 + high * (2.0 * second + 3.0 * high * third)
                    norm += directions[out, axis, particle] ** 2
                for axis in range(3):
                    directions[out, axis, particle] /= np.sqrt(norm)
                reached[i] += 1
            if reached[i] == n_radii or steps[i] >= most:
                for out in range(reached[i], n_radii):
                    for axis in range(3):
                        positions[out, axis, who[i]] = r[axis, i]
                        directions[out, axis, who[i]] = u[axis, i]
                who[i], steps[i] = -1, 0
                active -= 1
