`timescale 1ns / 1ps
// Self-checking: prints PASS, or FAIL and what differs.
module tb;
  localparam STREAMS = @STREAMS@, PORTS = @PORTS@, WIDTH = @WIDTH@, ROWS = @ROWS@;
  localparam ROW = @ROW@, TAG = @TAG@, COUNT = @COUNT@;
  reg clk = 0, rst = 1, load = 0, go = 0, full;
  reg [ROW-1:0] row = 0;
  reg [ROW-1:0] table_rows [0:ROWS-1];
  reg [WIDTH-1:0] values [0:@VALUES@-1];
  reg [31:0] symbols [0:@SYMBOLS@-1];
  reg [31:0] offsets [0:@OFFSETS@-1];
  reg [31:0] info [0:6*STREAMS-1];
  reg [31:0] noise = 32'h1234567;
  integer cycles = 0, moved = 0, errors = 0, idle = 0, i;
  always #1 clk = ~clk;
  always @(posedge clk) noise <= {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
  wire stall_a = ~full & noise[3] & noise[17];
  wire stall_b = ~full & noise[8] & noise[26];
  initial begin
    full = $test$plusargs("full");
    $readmemh("table.hex", table_rows);
    $readmemh("values.hex", values);
    $readmemh("symbols.hex", symbols);
    $readmemh("offsets.hex", offsets);
    $readmemh("streams.hex", info);
    repeat (4) @(negedge clk);
    rst = 0;
    for (i = 0; i < ROWS; i = i + 1) begin
      load = 1; row = table_rows[i];
      @(negedge clk);
    end
    load = 0; go = 1;
  end
  task fail(input [8*32-1:0] what, input integer stream, input integer at);
    begin
      if (errors < 10) $display("FAIL %0s of stream %0d at %0d", what, stream, at);
      errors = errors + 1;
    end
  endtask
  task finish_up;
    begin
      if (errors == 0)
        $display("PASS @SIDE@: %0d values in %0d cycles", moved, cycles);
      else
        $display("FAIL @SIDE@: %0d errors", errors);
      $finish;
    end
  endtask
