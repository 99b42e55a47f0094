"""Engines: many lanes behind a few memory ports (section V-B, replication).

Stream ``s`` of an engine lives in lane ``s // stages``. All lanes hold the same table. The lanes
are dealt to the ports in turn; a port moves one 32-bit word a cycle and serves its lanes round
robin.

The words of a stream, symbols and offsets, are those of the payload that software writes
(``docs/format.md``, "Arithmetic"), but for the length in front: ``streams.py`` takes frames apart.
A word's bits have the first one on top, so words are payload bytes read big-endian.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon.arbiter import RoundRobin
from fewbits.silicon.bits import named
from fewbits.silicon.lanes import COUNT_BITS, DecoderLane, EncoderLane
from fewbits.silicon.settings import WORD_BITS, Settings
from fewbits.silicon.tables import table_ports

SYMBOLS, OFFSETS = 0, 1


class _Engine(wiring.Component):
    def __init__(self, settings: Settings, lanes: int, ports: int | None, signature: Any) -> None:
        # Four lanes of 8-bit values rarely need more than a word a cycle between them.
        ports = max(1, lanes // 4) if ports is None else ports
        if not 1 <= lanes <= 1024:
            raise ValueError(f"silicon: lanes={lanes} is not in 1..1024")
        if not 1 <= ports <= lanes:
            raise ValueError(f"silicon: ports={ports} is not in 1..{lanes}, the number of lanes")
        self.settings, self.lanes, self.ports = settings, lanes, ports
        self.streams = lanes * settings.stages
        self.stream_bits = max(1, (self.streams - 1).bit_length())
        super().__init__({**table_ports(settings), **signature(self)})

    def lanes_of(self, port: int) -> range:
        """The lanes that a port serves."""
        return range(port, self.lanes, self.ports)

    def port_of(self, stream: int) -> int:
        """The port that serves a stream."""
        return stream // self.settings.stages % self.ports


class EncoderEngine(_Engine):
    """Encodes ``streams`` streams of values into words.

    ==========================  ======  =========================================================
    ``load``, ``row``           in      the table for all lanes, see ``tables.py``
    ``values[s]``               in      of each stream: ``value``, ``last``, ``valid``, ``ready``
    ``words[p]``                out     of each port: ``word``, its ``stream``, its ``kind`` (0
                                        symbols, 1 offsets), ``last``: the stream of this kind ends
                                        with it, ``empty``: it ended before, there is no word;
                                        ``valid``, ``ready``
    ``overflow``                out     a lane's underflow counter could not count
    ==========================  ======  =========================================================
    """

    def __init__(self, settings: Settings, lanes: int = 1, ports: int | None = None) -> None:
        self.make_lane: Callable[[Settings], Any] = EncoderLane
        super().__init__(settings, lanes, ports, self._signature)

    @staticmethod
    def _signature(engine: _Engine) -> dict[str, Any]:
        value = wiring.Signature(
            {"value": In(engine.settings.width), "last": In(1), "valid": In(1), "ready": Out(1)}
        )
        word = wiring.Signature(
            {
                "word": Out(WORD_BITS),
                "stream": Out(engine.stream_bits),
                "kind": Out(1),
                "last": Out(1),
                "empty": Out(1),
                "valid": Out(1),
                "ready": In(1),
            }
        )
        return {
            "values": Out(value).array(engine.streams),
            "words": Out(word).array(engine.ports),
            "overflow": Out(1),
        }

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        stages = self.settings.stages
        lanes = [self.make_lane(self.settings) for _ in range(self.lanes)]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += [lane.load.eq(self.load), lane.row.eq(self.row)]
            mine = self.values[number * stages : (number + 1) * stages]
            for field in ("value", "last", "valid"):
                offered = Array(getattr(port, field) for port in mine)
                m.d.comb += getattr(lane, field).eq(offered[lane.turn])
            for turn, port in enumerate(mine):
                m.d.comb += port.ready.eq(lane.ready & (lane.turn == turn))
        for number, out in enumerate(self.words):
            self._collect(m, out, [(i, lanes[i]) for i in self.lanes_of(number)], f"port{number}")
        m.d.comb += self.overflow.eq(Cat(lane.overflow for lane in lanes) != 0)
        return m

    def _collect(self, m: Module, out: Any, lanes: list[tuple[int, Any]], name: str) -> None:
        """Bring the words of some lanes to one port."""
        sources = [
            (number, kind, port)
            for number, lane in lanes
            for kind, port in ((SYMBOLS, lane.symbols), (OFFSETS, lane.offsets))
        ]
        m.submodules[name] = arbiter = RoundRobin(len(sources))
        # A word that waits at the port stays the one that is offered.
        chosen, holds = Signal.like(arbiter.granted), Signal()
        source = named(m, "source", Mux(holds, chosen, arbiter.granted))
        m.d.sync += [chosen.eq(source), holds.eq(out.valid & ~out.ready)]
        m.d.comb += [
            arbiter.requests.eq(Cat(port.valid for _, _, port in sources)),
            arbiter.advance.eq(out.valid & out.ready),
            out.valid.eq(arbiter.valid),
        ]
        with m.Switch(source):
            for place, (number, kind, port) in enumerate(sources):
                with m.Case(place):
                    m.d.comb += [
                        out.word.eq(port.word),
                        out.stream.eq(number * self.settings.stages + self._turn(port)),
                        out.kind.eq(kind),
                        out.last.eq(port.last),
                        out.empty.eq(port.empty),
                        port.ready.eq(out.ready),
                    ]

    def _turn(self, port: Any) -> Any:
        return port.stream if self.settings.stages > 1 else 0


class DecoderEngine(_Engine):
    """Decodes words of up to ``streams`` streams into values.

    ==========================  ======  =========================================================
    ``load``, ``row``           in      the table for all lanes, see ``tables.py``
    ``job_stream``              in      a stream to decode
    ``job_count``               in      how many values it has, at least 1
    ``job_valid``               in      it is there
    ``job_ready``               out     it is taken: the stream before it is done
    ``requests[p]``             out     of each port, a word that is wanted: ``stream``, ``kind`` (0
                                        symbols, 1 offsets); ``valid``, ``ready``
    ``words[p]``                in      of each port, the word for a request, any number of cycles
                                        later, in any order: ``word``, ``stream``, ``kind``,
                                        ``last``: it is the last of its stream and kind, ``empty``:
                                        and there is no word; ``valid``. Its place is kept: it
                                        never waits
    ``values[s]``               out     of each stream: ``value``, ``last``, ``valid``, ``ready``
    ``fault``                   out     a stream was damaged
    ==========================  ======  =========================================================

    A lane stalls for a value that is not taken, so streams of one lane must not wait for one
    another.
    """

    def __init__(self, settings: Settings, lanes: int = 1, ports: int | None = None) -> None:
        self.make_lane: Callable[[Settings], Any] = DecoderLane
        super().__init__(settings, lanes, ports, self._signature)

    @staticmethod
    def _signature(engine: _Engine) -> dict[str, Any]:
        tag = {"stream": Out(engine.stream_bits), "kind": Out(1), "valid": Out(1)}
        value = {"value": Out(engine.settings.width), "last": Out(1), "valid": Out(1)}
        word = {"word": Out(WORD_BITS), "last": Out(1), "empty": Out(1)}
        request = wiring.Signature({**tag, "ready": In(1)})
        return {
            "job_stream": In(engine.stream_bits),
            "job_count": In(COUNT_BITS),
            "job_valid": In(1),
            "job_ready": Out(1),
            "requests": Out(request).array(engine.ports),
            "words": In(wiring.Signature({**tag, **word})).array(engine.ports),
            "values": Out(wiring.Signature({**value, "ready": In(1)})).array(engine.streams),
            "fault": Out(1),
        }

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        stages = self.settings.stages
        lanes = [self.make_lane(self.settings) for _ in range(self.lanes)]
        turn_bits = (stages - 1).bit_length()
        ready = Array(lane.job_ready for lane in lanes)
        job_lane, job_turn = self._split(m, self.job_stream)
        m.d.comb += self.job_ready.eq(ready[job_lane])
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += [
                lane.load.eq(self.load),
                lane.row.eq(self.row),
                lane.job_stream.eq(job_turn),
                lane.job_count.eq(self.job_count),
                lane.job_valid.eq(self.job_valid & (job_lane == number)),
            ]
            mine = self.values[number * stages : (number + 1) * stages]
            taken = Array(port.ready for port in mine)
            turn = lane.stream if turn_bits else 0
            m.d.comb += lane.ready.eq(taken[turn])
            for place, port in enumerate(mine):
                m.d.comb += [
                    port.value.eq(lane.value),
                    port.last.eq(lane.last),
                    port.valid.eq(lane.valid & (turn == place)),
                ]
        for number in range(self.ports):
            self._serve(m, number, [(i, lanes[i]) for i in self.lanes_of(number)])
        m.d.comb += self.fault.eq(Cat(lane.fault for lane in lanes) != 0)
        return m

    def _split(self, m: Module, stream: Any) -> tuple[Any, Any]:
        """Lane and turn of a stream."""
        stages = self.settings.stages
        if stages == 1:
            return stream, 0
        return named(m, "lane", stream // stages), named(m, "turn_of", stream % stages)

    def _serve(self, m: Module, number: int, lanes: list[tuple[int, Any]]) -> None:
        """Ask at one port for what some lanes want, at most a word at a time for each stream."""
        stages, request, word = self.settings.stages, self.requests[number], self.words[number]
        wanted = [
            (i * stages + turn, kind, port.space[turn] & lane.active[turn])
            for i, lane in lanes
            for kind, port in ((SYMBOLS, lane.symbols), (OFFSETS, lane.offsets))
            for turn in range(stages)
        ]
        m.submodules[f"port{number}"] = arbiter = RoundRobin(len(wanted))
        asked = Signal(len(wanted), name=f"asked{number}")
        # What was offered and not taken is still wanted: only its own word could change that.
        chosen, holds = Signal.like(arbiter.granted), Signal()
        source = named(m, "source", Mux(holds, chosen, arbiter.granted))
        m.d.sync += [chosen.eq(source), holds.eq(request.valid & ~request.ready)]
        m.d.comb += [
            arbiter.requests.eq(Cat(want for _, _, want in wanted) & ~asked),
            arbiter.advance.eq(request.valid & request.ready),
            request.valid.eq(arbiter.valid),
        ]
        word_lane, word_turn = self._split(m, word.stream)
        for place, (stream, kind, _) in enumerate(wanted):
            with m.If(source == place):
                m.d.comb += [request.stream.eq(stream), request.kind.eq(kind)]
                with m.If(request.valid & request.ready):
                    m.d.sync += asked[place].eq(1)
            with m.If(word.valid & (word.stream == stream) & (word.kind == kind)):
                m.d.sync += asked[place].eq(0)
        for i, lane in lanes:
            for kind, port in ((SYMBOLS, lane.symbols), (OFFSETS, lane.offsets)):
                m.d.comb += [
                    port.word.eq(word.word),
                    port.stream.eq(word_turn),
                    port.last.eq(word.last),
                    port.empty.eq(word.empty),
                    port.valid.eq(word.valid & (word_lane == i) & (word.kind == kind)),
                ]
