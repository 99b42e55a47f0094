
  wire [STREAMS*WIDTH-1:0] value;
  wire [STREAMS-1:0] last, valid, ready;
  wire [PORTS*TAG-1:0] wanted;
  wire [PORTS-1:0] wanted_kind, wanted_valid, wanted_ready;
  reg [PORTS*32-1:0] word = 0;
  reg [PORTS*TAG-1:0] stream = 0;
  reg [PORTS-1:0] kind = 0, word_last = 0, empty = 0, word_valid = 0;
  wire fault, job_ready;
  integer job = 0;
  wire job_valid = go & (job < STREAMS);
  wire [TAG-1:0] job_stream = job[TAG-1:0];
  wire [COUNT-1:0] job_count = info[6*(job < STREAMS ? job : 0) + 1];
  integer place [0:STREAMS-1];
  integer at_symbol [0:STREAMS-1];
  integer at_offset [0:STREAMS-1];
  integer s, p, open = STREAMS;
  initial for (s = 0; s < STREAMS; s = s + 1) begin
    place[s] = 0; at_symbol[s] = 0; at_offset[s] = 0;
  end
  assign ready = {STREAMS{~stall_a}};
  assign wanted_ready = {PORTS{go & ~stall_b}};
  fewbits_decoder_engine engine (
    .clk(clk), .rst(rst), .load(load), .row(row), .fault(fault),
    .job_stream(job_stream), .job_count(job_count),
    .job_valid(job_valid), .job_ready(job_ready)@CONNECTIONS@
  );
  always @(posedge clk) if (go) begin
    cycles = cycles + 1;
    idle = idle + 1;
    if (job_valid & job_ready) job <= job + 1;
    for (p = 0; p < PORTS; p = p + 1) begin
      word_valid[p] <= wanted_valid[p] & wanted_ready[p];
      if (wanted_valid[p] & wanted_ready[p]) begin
        s = wanted[p*TAG +: TAG]; idle = 0;
        stream[p*TAG +: TAG] <= s;
        kind[p] <= wanted_kind[p];
        if (!wanted_kind[p]) begin
          word[p*32 +: 32] <= symbols[info[6*s+2] + at_symbol[s]];
          empty[p] <= info[6*s+3] == 0;
          word_last[p] <= at_symbol[s] + 1 >= info[6*s+3];
          at_symbol[s] = at_symbol[s] + 1;
          if (at_symbol[s] > 1 && at_symbol[s] > info[6*s+3])
            fail("a word past the symbols", s, at_symbol[s]);
        end else begin
          word[p*32 +: 32] <= info[6*s+5] == 0 ? 0 : offsets[info[6*s+4] + at_offset[s]];
          empty[p] <= info[6*s+5] == 0;
          word_last[p] <= at_offset[s] + 1 >= info[6*s+5];
          at_offset[s] = at_offset[s] + 1;
          if (at_offset[s] > 1 && at_offset[s] > info[6*s+5])
            fail("a word past the offsets", s, at_offset[s]);
        end
      end
    end
    for (s = 0; s < STREAMS; s = s + 1)
      if (valid[s] & ready[s]) begin
        if (value[s*WIDTH +: WIDTH] !== values[info[6*s] + place[s]]) fail("a value", s, place[s]);
        place[s] = place[s] + 1; moved = moved + 1; idle = 0;
        if (last[s] != (place[s] == info[6*s+1])) fail("the end", s, place[s]);
        if (last[s]) open = open - 1;
      end
    if (fault) fail("a fault", 0, 0);
    if (idle > 10000) begin fail("a standstill", 0, 0); open = 0; end
    if (open == 0) finish_up;
  end
endmodule
