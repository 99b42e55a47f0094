
  wire [STREAMS*WIDTH-1:0] value;
  wire [STREAMS-1:0] last, valid, ready;
  wire [PORTS*32-1:0] word;
  wire [PORTS*TAG-1:0] stream;
  wire [PORTS-1:0] kind, word_last, empty, word_valid, word_ready;
  wire overflow;
  integer place [0:STREAMS-1];
  integer at_symbol [0:STREAMS-1];
  integer at_offset [0:STREAMS-1];
  integer s, p, open = 2 * STREAMS;
  initial for (s = 0; s < STREAMS; s = s + 1) begin
    place[s] = 0; at_symbol[s] = 0; at_offset[s] = 0;
  end
  genvar g;
  generate
    for (g = 0; g < STREAMS; g = g + 1) begin : given
      assign valid[g] = go & ~stall_a & (place[g] < info[6*g+1]);
      assign value[g*WIDTH +: WIDTH] = values[info[6*g] + place[g]];
      assign last[g] = place[g] == info[6*g+1] - 1;
    end
  endgenerate
  assign word_ready = {PORTS{~stall_b}};
  fewbits_encoder_engine engine (
    .clk(clk), .rst(rst), .load(load), .row(row), .overflow(overflow)@CONNECTIONS@
  );
  always @(posedge clk) if (go) begin
    cycles = cycles + 1;
    idle = idle + 1;
    for (s = 0; s < STREAMS; s = s + 1)
      if (valid[s] & ready[s]) begin
        place[s] <= place[s] + 1; moved = moved + 1; idle = 0;
      end
    for (p = 0; p < PORTS; p = p + 1)
      if (word_valid[p] & word_ready[p]) begin
        s = stream[p*TAG +: TAG]; idle = 0;
        if (!kind[p]) begin
          if (!empty[p]) begin
            if (word[p*32 +: 32] !== symbols[info[6*s+2] + at_symbol[s]])
              fail("a symbol word", s, at_symbol[s]);
            at_symbol[s] = at_symbol[s] + 1;
          end
          if (word_last[p] && at_symbol[s] != info[6*s+3])
            fail("the symbols' end", s, at_symbol[s]);
        end else begin
          if (!empty[p]) begin
            if (word[p*32 +: 32] !== offsets[info[6*s+4] + at_offset[s]])
              fail("an offset word", s, at_offset[s]);
            at_offset[s] = at_offset[s] + 1;
          end
          if (word_last[p] && at_offset[s] != info[6*s+5])
            fail("the offsets' end", s, at_offset[s]);
        end
        if (word_last[p]) open = open - 1;
      end
    if (overflow) fail("an overflow", 0, 0);
    if (idle > 10000) begin fail("a standstill", 0, 0); open = 0; end
    if (open == 0) finish_up;
  end
endmodule
