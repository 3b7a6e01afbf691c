// Drives the AXI ports of a verilated top module in batches of clock cycles, behind a C interface for ctypes.
//
// One clock cycle is: drive the inputs, evaluate with clk = 0 (so that paths from inputs to outputs, such as a combinational
// tready, have settled), sample both handshakes, evaluate with clk = 1 (the rising edge). What is sampled is therefore what
// every flip-flop sees at that edge. The handshake rules are those of shiftforge/transport.py.
//
// Compiled with SF_STREAM_BITS (32, 64, 128), SF_THREADS, Verilator's own VM_TRACE, and VL_USER_FINISH, _STOP and _FATAL.

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

#define SF_API extern "C" __attribute__((visibility("default")))

// Verilator's own versions end the process, which is the user's Python.
[[noreturn]] static void stop(const char* what, const char* file, int line) {
    throw std::runtime_error(std::string{what} + " at " + (file ? file : "?") + ":" + std::to_string(line));
}
void vl_finish(const char* file, int line, const char*) { stop("$finish", file, line); }
void vl_stop(const char* file, int line, const char*) { stop("$stop", file, line); }
void vl_fatal(const char* file, int line, const char*, const char* message) { stop(message, file, line); }

namespace {

constexpr unsigned kBeat = SF_STREAM_BITS / 8;  // bytes
constexpr uint32_t kAllBytes = (1u << kBeat) - 1u;
constexpr unsigned kResetCycles = 4, kMostResetCycles = 1024;

enum Status : int { kDone = 0, kMore = 1, kTimeout = 2, kUnstable = 3, kDead = 4 };

// Cycles in which one side is willing; an empty pattern is always.
class Pattern {
public:
    void set(const uint8_t* bits, uint64_t length, uint64_t cycle) {
        bits_.assign(bits, bits + length);
        index_ = length ? cycle % length : 0;
    }
    bool next() {  // the value for this cycle; moves to the next cycle
        if (bits_.empty()) return true;
        const bool value = bits_[index_];
        if (++index_ == bits_.size()) index_ = 0;
        return value;
    }

private:
    std::vector<uint8_t> bits_;
    size_t index_ = 0;
};

struct Beat {
    uint8_t data[kBeat];
    uint32_t keep;
    uint8_t last;
    bool operator!=(const Beat& other) const {
        return keep != other.keep || last != other.last || std::memcmp(data, other.data, kBeat) != 0;
    }
};

struct Sim {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    uint64_t cycle = 0;
    std::string error;  // not empty: the model must not be evaluated again

    // The transfer under way. The input arrays belong to the caller until the transfer ends.
    const uint8_t* data = nullptr;
    const uint8_t* last = nullptr;
    uint64_t beats = 0, position = 0, expected = 0, packets = 0, timeout = 0, idle = 0;
    bool held = false, record = false;
    Pattern valid, ready;
    bool resetting = false;
    bool waiting = false;  // the last cycle offered an output beat that was not taken
    Beat waited{};

    std::vector<uint8_t> out_bytes;
    std::vector<uint64_t> out_ends, input_cycles, output_cycles;

#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> vcd;
    std::string vcd_path;
    uint64_t vcd_from = 0, vcd_to = 0;
#endif

    Sim() {
        context.threads(SF_THREADS);
#if VM_TRACE
        context.traceEverOn(true);
#endif
        top = std::make_unique<Vtop>(&context);
    }
    ~Sim() {
#if VM_TRACE
        if (vcd) vcd->close();
#endif
        if (error.empty()) {
            try {
                top->final();
            } catch (const std::exception&) {  // a $finish in a final block: nothing is left to stop
            }
        }
    }

    void low() {  // the first half of a cycle: the inputs have settled
        top->clk = 0;
        top->eval();
        dump(2 * cycle);
    }
    void high() {  // the rising edge
        top->clk = 1;
        top->eval();
        dump(2 * cycle + 1);
        ++cycle;
    }
    void dump(uint64_t half) {
#if VM_TRACE
        if (vcd_path.empty() || resetting) return;
        if (!vcd && cycle >= vcd_from && cycle < vcd_to) {
            vcd = std::make_unique<VerilatedVcdC>();
            top->trace(vcd.get(), 99);
            vcd->open(vcd_path.c_str());
            if (!vcd->isOpen()) throw std::runtime_error("cannot write " + vcd_path);
        }
        if (!vcd) return;
        if (cycle < vcd_to) {
            vcd->dump(half * 500);  // Verilator's time unit is 1 ps by default: a cycle is drawn 1 ns wide
        } else {
            vcd->close();
            vcd.reset();
            vcd_path.clear();
        }
#else
        (void)half;
#endif
    }

    void idle_inputs() {
        waiting = false;  // a register access may reset the streams
        top->s_axis_tvalid = 0;
        top->m_axis_tready = 0;
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_arvalid = 0;
        top->s_axil_bready = top->s_axil_rready = 0;
    }

    void reset() {
        idle_inputs();
        resetting = true;
        top->rst = 1;
        for (unsigned i = 0; i < kResetCycles; ++i) {
            low();
            high();
        }
        top->rst = 0;
        low();
        for (unsigned i = 0; i < kMostResetCycles && !top->s_axis_tready; ++i) {  // the core's reset lasts longer
            high();
            low();
        }
        resetting = false;
        cycle = 0;
        held = false;
    }

    void drive(const uint8_t* bytes, uint32_t keep, bool tlast) {
        static_assert(sizeof(top->s_axis_tdata) == kBeat, "s_axis_tdata has another width");
        std::memcpy(&top->s_axis_tdata, bytes, kBeat);
        top->s_axis_tkeep = keep;
        top->s_axis_tlast = tlast;
    }

    int run(uint64_t limit) {
        static const uint8_t junk[16] = {0xa5, 0x5a, 0xff, 0x00, 0x3c, 0xc3, 0x0f, 0xf0,
                                         0x96, 0x69, 0x55, 0xaa, 0x81, 0x7e, 0x18, 0xe7};
        for (uint64_t n = 0; position < beats || packets < expected; ++n) {
            if (n == limit) return kMore;
            const bool willing = valid.next();
            const bool offer = position < beats && (held || willing);
            const bool take = ready.next();
            top->s_axis_tvalid = offer;
            top->m_axis_tready = take;
            if (offer && !held) drive(data + position * kBeat, kAllBytes, last[position]);
            // Without an offer the payload means nothing; a device that looks at it anyway shall be found out.
            if (!offer) drive(junk, kAllBytes >> 1, true);
            low();
            const bool accepted = offer && top->s_axis_tready;
            const bool offered = top->m_axis_tvalid;
            if (waiting || offered) {
                Beat beat;
                static_assert(sizeof(top->m_axis_tdata) == kBeat, "m_axis_tdata has another width");
                std::memcpy(beat.data, &top->m_axis_tdata, kBeat);
                beat.keep = top->m_axis_tkeep;
                beat.last = top->m_axis_tlast;
                if (waiting && (!offered || beat != waited)) return kUnstable;
                waiting = offered && !take;
                if (waiting) waited = beat;
                if (offered && take) collect(beat);
            }
            if (accepted) {
                if (record) input_cycles.push_back(cycle);
                ++position;
            }
            held = offer && !accepted;
            // Cycles in which this side itself held the device up do not count.
            if (accepted || (offered && take)) {
                idle = 0;
            } else if (take && (offer || position == beats)) {
                ++idle;
            }
            high();
            if (idle >= timeout) return kTimeout;
        }
        top->s_axis_tvalid = top->m_axis_tready = 0;
        return kDone;
    }

    void collect(const Beat& beat) {
        if (beat.keep == kAllBytes) {
            out_bytes.insert(out_bytes.end(), beat.data, beat.data + kBeat);
        } else {
            for (unsigned i = 0; i < kBeat; ++i)
                if (beat.keep >> i & 1u) out_bytes.push_back(beat.data[i]);
        }
        if (record) output_cycles.push_back(cycle);
        if (beat.last) {
            out_ends.push_back(out_bytes.size());
            ++packets;
        }
    }

    // Both return the two response bits, or -1 when the device did not answer within `limit` cycles.
    int write_register(uint32_t address, uint32_t value, uint32_t strobe, uint64_t limit) {
        idle_inputs();
        bool address_left = true, data_left = true;
        top->s_axil_awaddr = address;
        top->s_axil_awprot = 0;
        top->s_axil_wdata = value;
        top->s_axil_wstrb = strobe;
        top->s_axil_bready = 1;
        for (uint64_t n = 0; n < limit; ++n) {
            top->s_axil_awvalid = address_left;
            top->s_axil_wvalid = data_left;
            low();
            if (top->s_axil_awready) address_left = false;
            if (top->s_axil_wready) data_left = false;
            const bool answered = top->s_axil_bvalid;
            const int response = top->s_axil_bresp;
            high();
            if (answered) {
                idle_inputs();
                return response;
            }
        }
        idle_inputs();
        return -1;
    }

    int read_register(uint32_t address, uint32_t* value, uint64_t limit) {
        idle_inputs();
        bool left = true;
        top->s_axil_araddr = address;
        top->s_axil_arprot = 0;
        top->s_axil_rready = 1;
        for (uint64_t n = 0; n < limit; ++n) {
            top->s_axil_arvalid = left;
            low();
            if (top->s_axil_arready) left = false;
            const bool answered = top->s_axil_rvalid;
            const int response = top->s_axil_rresp;
            *value = top->s_axil_rdata;
            high();
            if (answered) {
                idle_inputs();
                return response;
            }
        }
        idle_inputs();
        return -1;
    }
};

// Runs `body` on a live model. An exception out of eval() leaves the model half evaluated, so it is never used again.
template <typename Body> int guarded(Sim* sim, Body body) {
    if (!sim->error.empty()) return kDead;
    try {
        return body();
    } catch (const std::exception& caught) {
        sim->error = caught.what();
        if (sim->error.empty()) sim->error = "unknown failure";
        return kDead;
    }
}

}  // namespace

SF_API Sim* sf_create() {
    try {
        return new Sim;
    } catch (const std::exception&) {
        return nullptr;
    }
}

SF_API void sf_destroy(Sim* sim) { delete sim; }

SF_API const char* sf_error(const Sim* sim) { return sim->error.c_str(); }

SF_API int sf_reset(Sim* sim) {
    return guarded(sim, [&] {
        sim->reset();
        return int{kDone};
    });
}

SF_API int sf_trace(Sim* sim, const char* path, uint64_t from, uint64_t to) {
#if VM_TRACE
    sim->vcd_path = path;
    sim->vcd_from = from;
    sim->vcd_to = to;
    return kDone;
#else
    (void)sim, (void)path, (void)from, (void)to;
    return kDead;
#endif
}

SF_API void sf_begin(Sim* sim, const uint8_t* data, const uint8_t* last, uint64_t beats, uint64_t expected,
                     const uint8_t* valid, uint64_t valid_length, const uint8_t* ready, uint64_t ready_length,
                     uint64_t timeout, int record) {
    sim->data = data;
    sim->last = last;
    sim->beats = beats;
    sim->expected = expected;
    sim->position = sim->packets = sim->idle = 0;
    sim->held = false;
    sim->valid.set(valid, valid_length, sim->cycle);
    sim->ready.set(ready, ready_length, sim->cycle);
    sim->timeout = timeout;
    sim->record = record != 0;
    sim->out_bytes.clear();
    sim->out_ends.clear();
    sim->input_cycles.clear();
    sim->output_cycles.clear();
}

SF_API int sf_run(Sim* sim, uint64_t limit) {
    return guarded(sim, [&] { return sim->run(limit); });
}

// Ends a transfer that did not finish: what is left of the input is dropped.
SF_API void sf_abandon(Sim* sim) {
    sim->beats = sim->position = sim->expected = sim->packets = 0;
    sim->held = false;
    sim->data = sim->last = nullptr;
    sim->idle_inputs();
}

SF_API int sf_write_register(Sim* sim, uint32_t address, uint32_t value, uint32_t strobe, uint64_t limit, int* response) {
    return guarded(sim, [&] {
        *response = sim->write_register(address, value, strobe, limit);
        return int{*response < 0 ? kTimeout : kDone};
    });
}

SF_API int sf_read_register(Sim* sim, uint32_t address, uint32_t* value, uint64_t limit, int* response) {
    return guarded(sim, [&] {
        *response = sim->read_register(address, value, limit);
        return int{*response < 0 ? kTimeout : kDone};
    });
}

SF_API uint64_t sf_cycle(const Sim* sim) { return sim->cycle; }
SF_API uint64_t sf_position(const Sim* sim) { return sim->position; }
SF_API uint64_t sf_packets(const Sim* sim) { return sim->packets; }

// Views into what the transfer collected, valid until the next sf_begin; `size` gets the number of elements.
SF_API const uint8_t* sf_output(const Sim* sim, uint64_t* size) {
    *size = sim->out_bytes.size();
    return sim->out_bytes.data();
}
SF_API const uint64_t* sf_numbers(const Sim* sim, int which, uint64_t* size) {
    const auto& numbers = which == 0 ? sim->out_ends : which == 1 ? sim->input_cycles : sim->output_cycles;
    *size = numbers.size();
    return numbers.data();
}
