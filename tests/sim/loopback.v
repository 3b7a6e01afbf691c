// The accelerator's ports around a loopback: a FIFO of four beats and an output register, with stalls of its own.
//
// As the accelerator's, its streams are reset one cycle late. In cycle t since then (t modulo 65536) it takes a beat when the FIFO
// has room and t % 4 != 3, and moves a beat from the FIFO to a free output register when t % 16 >= 3.
//
// Register 0x008 is a constant, 0x010 a scratch word, 0x020 the mode:
// bit 0 takes no input, 1 sends nothing, 2 changes waiting data, 3 withdraws valid, 4 calls $finish on a beat,
// 5 is a wire (all paths combinational), 6 sends half of each last beat, 7 sends no tlast.
// Register 0x0f0 never answers; every other address answers SLVERR.
`timescale 1ns / 1ps
module shiftforge_top #(
    parameter W = 64
) (
    input clk,
    input rst,
    input [W-1:0] s_axis_tdata,
    input [W/8-1:0] s_axis_tkeep,
    input s_axis_tvalid,
    output s_axis_tready,
    input s_axis_tlast,
    output [W-1:0] m_axis_tdata,
    output [W/8-1:0] m_axis_tkeep,
    output m_axis_tvalid,
    input m_axis_tready,
    output m_axis_tlast,
    input [11:0] s_axil_awaddr,
    input [2:0] s_axil_awprot,
    input s_axil_awvalid,
    output s_axil_awready,
    input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb,
    input s_axil_wvalid,
    output s_axil_wready,
    output reg [1:0] s_axil_bresp,
    output reg s_axil_bvalid,
    input s_axil_bready,
    input [11:0] s_axil_araddr,
    input [2:0] s_axil_arprot,
    input s_axil_arvalid,
    output s_axil_arready,
    output reg [31:0] s_axil_rdata,
    output reg [1:0] s_axil_rresp,
    output reg s_axil_rvalid,
    input s_axil_rready
);
    reg [31:0] scratch, mode;
    reg [15:0] t;
    reg [W:0] fifo[0:3];
    reg [2:0] level;
    reg [1:0] head, tail;
    reg full, late;
    reg [W:0] out;

    wire wire_mode = mode[5];
    wire room = level < 4 && t[1:0] != 3 && !late;
    wire take = s_axis_tvalid && room && !mode[0] && !wire_mode;
    wire sent = m_axis_tvalid && m_axis_tready && !wire_mode;
    wire move = (!full || sent) && level != 0 && t[3:0] >= 3;
    wire last = (wire_mode ? s_axis_tlast : out[W]) && !mode[7];

    assign s_axis_tready = wire_mode ? m_axis_tready : room && !mode[0];
    assign m_axis_tvalid = wire_mode ? s_axis_tvalid : full && !mode[1] && !(mode[3] && t[0]);
    assign m_axis_tdata = wire_mode ? s_axis_tdata : out[W-1:0] ^ {{(W - 1) {1'b0}}, mode[2] & t[0]};
    assign m_axis_tlast = last;
    assign m_axis_tkeep = mode[6] && last ? {W / 8{1'b1}} >> (W / 16) : wire_mode ? s_axis_tkeep : {W / 8{1'b1}};

    always @(posedge clk) begin
        late <= rst;
        t <= t + 1;
        if (take) begin
            fifo[tail] <= {s_axis_tlast, s_axis_tdata};
            tail <= tail + 1;
            if (mode[4]) $finish;
        end
        if (move) begin
            out <= fifo[head];
            head <= head + 1;
        end
        full <= move || (full && !sent);
        level <= level + {2'b0, take} - {2'b0, move};
        if (rst || late) begin
            t <= 0;
            head <= 0;
            tail <= 0;
            full <= 0;
            level <= 0;
        end
    end

    // The write address is taken first, the data two cycles later; the answer follows.
    reg [1:0] writing;
    reg [11:0] address;
    integer i;
    assign s_axil_awready = writing == 0 && !s_axil_bvalid;
    assign s_axil_wready = writing == 2;
    assign s_axil_arready = !s_axil_rvalid;
    always @(posedge clk) begin
        if (s_axil_awvalid && s_axil_awready) begin
            writing <= 1;
            address <= s_axil_awaddr;
        end
        if (writing == 1) writing <= 2;
        if (s_axil_wvalid && s_axil_wready) begin
            writing <= 0;
            s_axil_bvalid <= address != 12'h0f0;
            s_axil_bresp <= address == 12'h010 || address == 12'h020 ? 0 : 2;
            for (i = 0; i < 4; i = i + 1)
                if (s_axil_wstrb[i]) begin
                    if (address == 12'h010) scratch[8*i+:8] <= s_axil_wdata[8*i+:8];
                    if (address == 12'h020) mode[8*i+:8] <= s_axil_wdata[8*i+:8];
                end
        end
        if (s_axil_bvalid && s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= s_axil_araddr != 12'h0f0;
            s_axil_rresp <= 0;
            case (s_axil_araddr)
                12'h008: s_axil_rdata <= 32'hcafe1234;
                12'h010: s_axil_rdata <= scratch;
                12'h020: s_axil_rdata <= mode;
                default: begin
                    s_axil_rdata <= 0;
                    s_axil_rresp <= 2;
                end
            endcase
        end
        if (s_axil_rvalid && s_axil_rready) s_axil_rvalid <= 0;
        if (rst) begin
            writing <= 0;
            s_axil_bvalid <= 0;
            s_axil_rvalid <= 0;
            scratch <= 0;
            mode <= 0;
        end
    end
    wire unused = &{s_axil_awprot, s_axil_arprot};
endmodule
