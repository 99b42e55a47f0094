"""Packing in loops of others: forward hooks, Transformers' Trainer, Lightning's Trainer."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from fewbits.training import pack_forwards  # noqa: E402
from training.models import Residual, classify, gradients, images, labels, same  # noqa: E402


def test_forwards_are_packed_until_removed():
    model = Residual()
    exact = gradients(model, classify(model))
    handle = pack_forwards(model, "int4", min_bytes=1)
    packed = gradients(model, classify(model))
    assert handle.report().ratio > 2
    handle.remove()
    again = gradients(model, classify(model))
    assert not same(packed, exact)
    assert same(again, exact)


def test_forwards_without_gradients_are_not_packed():
    model = Residual()
    handle = pack_forwards(model, "int4")
    with torch.no_grad():
        model(images())
    assert handle.report().rows == ()


def test_a_failing_forward_leaves_nothing_active():
    model = Residual()
    exact = gradients(model, classify(model))
    handle = pack_forwards(model, "int4", min_bytes=1)
    with pytest.raises(RuntimeError):
        model(images()[:, :2])
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    handle.remove()
    assert same(gradients(model, classify(model)), exact)


def test_transformers_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from fewbits.training.for_transformers import PackActivations

    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(60, (16, 16), generator=generator)
    data = [{"input_ids": row, "labels": int(row[0]) % 2} for row in tokens]

    def trained(*callbacks):
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        args = transformers.TrainingArguments(
            str(tmp_path),
            max_steps=4,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = transformers.Trainer(model, args, train_dataset=data, callbacks=[*callbacks])
        loss = trainer.train().training_loss
        return loss, [p.detach().clone() for p in model.parameters()]

    loss, weights = trained()
    same_loss, same_weights = trained(PackActivations("lossless"))
    assert same_loss == loss
    assert all(torch.equal(a, b) for a, b in zip(weights, same_weights, strict=True))
    callback = PackActivations("int8", min_bytes=1)
    close, _ = trained(callback)
    assert close == pytest.approx(loss, rel=0.02)
    assert callback.report().ratio > 2


def test_lightning_trainer():
    lightning = pytest.importorskip("lightning.pytorch")
    from fewbits.training.for_lightning import PackActivations

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Residual()

        def training_step(self, batch, index):
            x, y = batch
            return F.cross_entropy(self.model(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(images(12), labels(12))

    def trained(*callbacks):
        torch.manual_seed(0)
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=1,
            callbacks=[*callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        torch.manual_seed(1)
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=6))
        return nn.utils.parameters_to_vector(module.parameters()).detach()

    exact = trained()
    assert torch.equal(trained(PackActivations("lossless")), exact)
    callback = PackActivations("int8", min_bytes=1)
    assert torch.allclose(trained(callback), exact, atol=0.02)
    assert callback.report().ratio > 2
