"""A call by several threads: each walks through all layers, and those with much to do are divided among them.

A layer is divided into ranges of its kernel's units, the same ranges every time; the first thread does the others
alone. Threads meet where what one of them wrote is read by another: before and after every divided layer. They need
nothing for that but a counter each, in the first bytes of the arena. Waiting is spinning, and after some microseconds
offering the core to others: each thread should have a core of its own, and where it has not, they get slow and not
stuck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .kernel import Kernel
from .memory import ALIGNMENT_BYTES
from .net import Layer
from .work import PRODUCTS, work

MAX_PARTS = ALIGNMENT_BYTES // 4
"""One counter of 32 bits each."""
LEAST_MULTIPLICATIONS = 200_000
"""Of a layer that is divided: some microseconds. To meet, and to fetch what others wrote, costs one or two."""
LEAST_ELEMENTS = 20_000
"""The same of a layer without products, read or written."""
PATIENCE = 2000
"""Looks at another thread's counter before the core is offered to others: some ten microseconds."""
MEETING = f"""#if defined(__x86_64__)
#define EW_PAUSE() __builtin_ia32_pause()
#else
#define EW_PAUSE() __asm__ volatile("yield")
#endif

/* Somebody else may need this core: sched_yield, without a C library. */
static void ew_offer_core(void) {{
#if defined(__linux__) && defined(__x86_64__)
    long result = 24;
    __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
#elif defined(__linux__) && defined(__aarch64__)
    register long number __asm__("x8") = 124;
    register long result __asm__("x0");
    __asm__ volatile("svc 0" : "=r"(result) : "r"(number) : "memory");
#endif
}}

static void ew_arrive(uint32_t *arrived, uint32_t part, uint32_t turn) {{
    __atomic_store_n(arrived + part, turn, __ATOMIC_RELEASE);
}}

static void ew_await(const uint32_t *arrived, uint32_t parts, uint32_t turn) {{
    for (uint32_t other = 0, looks = 0; other < parts; other++)
        while (__atomic_load_n(arrived + other, __ATOMIC_ACQUIRE) < turn) {{
            EW_PAUSE();
            if (++looks >= {PATIENCE}) ew_offer_core();
        }}
}}

"""
"""Every part has a counter that only it writes: of the turns that it has arrived at. (Adding to a counter that all
share would need a function of the compiler's on AArch64.)"""


@dataclass(frozen=True)
class Call:
    """Of the function of one layer."""

    comment: str
    name: str
    arguments: str
    units: int
    scratch: int
    """Where it lies in the arena."""
    scratch_bytes: int
    """Of one thread; 0 for none."""
    divided: bool

    def whole(self) -> str:
        """By one thread."""
        return self._text("0", str(self.units), f", a + {self.scratch}")

    def part(self) -> str:
        """By each of several threads: its share."""
        begin, end = (f"{self.units} * (int64_t){part} / parts" for part in ("part", "(part + 1)"))
        return self._text(begin, end, f", a + {self.scratch} + part * (uintptr_t){self.scratch_bytes}")

    def _text(self, begin: str, end: str, scratch: str) -> str:
        scratch = scratch if self.scratch_bytes else ""
        return f"    /* {self.comment} */\n    {self.name}({begin}, {end}, {self.arguments}{scratch});\n"


def is_divided(layer: Layer, kernel: Kernel) -> bool:
    """Whether several threads share a layer: it has units to share, and enough to do."""
    if isinstance(layer, PRODUCTS):
        return kernel.units > 1 and work(layer) >= LEAST_MULTIPLICATIONS
    return kernel.units > 1 and sum(x.elements for x in (*layer.inputs, *layer.outputs)) >= LEAST_ELEMENTS


def run_part(calls: Sequence[Call], batch: int, max_parts: int) -> str:
    """The walk of one of several threads through a net."""
    text, turn = [], 0
    for index, call in enumerate(calls):
        if index and (call.divided or calls[index - 1].divided):
            turn += 1
            text.append(f"    ew_arrive(arrived, part, {turn});\n    ew_await(arrived, parts, {turn});\n")
        text.append(call.part() if call.divided else f"    if (part == 0) {{\n{call.whole()}    }}\n")
    return f"""static void run_part_{batch}(
    const void *const *in, void *const *out, void *arena, uint32_t part, uint32_t parts
) {{
    uint32_t *const arrived = arena;
    char *const a = (char *)arena + {ALIGNMENT_BYTES};
    (void)in;
    (void)out;
    if (parts > {max_parts}) parts = {max_parts};
    if (part >= parts) return;
{"".join(text)}    ew_arrive(arrived, part, {turn + 1});
    if (part == 0) ew_await(arrived, parts, {turn + 1});
}}

"""
